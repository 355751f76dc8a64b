// The model's heads: logits, softmax and cross-entropy with the gradient of all of it, so that logits need not leave
// the chip. 3 V D multiply-adds and V exponentials for a token.

#include "src/ops/cuda/head.h"

#include "src/ops/cuda/dense_tiles.cuh"

namespace igpt::ops::cuda {

/// Turns the logits of the thread's token into their gradient, in place; 0 where there is no token. Returns the
/// cross-entropy in nats.
template <int kTokens>
SIMT_DEVICE float cross_entropy(const OwnColumns<kTokens>& own, const Tile& logits, int vocab, int target,
                                float scale) {
  const auto row = logits[own.token];
  const int lane = simt::thread() % own.kLanes;
  float largest = -INFINITY, sum = 0.0f;
  for (int v = lane; v < vocab; v += own.kLanes) largest = fmaxf(largest, row[v]);
  largest = own.largest_of_lanes(largest);
  const float logit = row[target < 0 ? 0 : target];
  simt::sync_warp();  // all lanes have read the target's logit
  for (int v = lane; v < vocab; v += own.kLanes) {
    const float e = simt::exp2_approx((row[v] - largest) * kLog2E);
    row[v] = e;
    sum += e;
  }
  sum = own.sum_of_lanes(sum);
  const float factor = target < 0 ? 0.0f : scale * simt::reciprocal(sum);
  for (int v = lane; v < (vocab + 3) / 4 * 4; v += own.kLanes) {
    const float p = v < vocab ? row[v] * factor : 0.0f;
    row[v] = v == target ? p - scale : p;
  }
  return logf(sum) + (largest - logit);
}

template <int kEmbed>
SIMT_KERNEL(kDenseThreads, kEmbed == 16 ? dense_blocks_of_sm<16> : 2)
head_kernel(Head in) {
  constexpr int kTokens = kTokensOfTile<kEmbed>;
  const int embed = kEmbed ? kEmbed : in.sizes.embed, vocab = in.sizes.outputs;
  const int64_t tokens = in.sizes.tokens;
  simt::SharedArena arena;
  const Tile normalised(arena, kTokens, embed, "normalised"), normed(arena, kTokens, embed, "normed"),
      d_normed(arena, kTokens, embed, "d_normed"), logits(arena, kTokens, vocab, "logits");
  const OwnColumns<kTokens> own(embed, in.sizes.rms_norm);
  const auto norm_sums = in.sums + simt::block() * in.sizes.weights, weight_sums = norm_sums + in.sizes.norm_weights;
  for (int tile = 0; tile < in.sizes.tiles_of_part; ++tile) {
    const int64_t first = (int64_t{simt::block()} * in.sizes.tiles_of_part + tile) * kTokens, token = first + own.token;
    if (first >= tokens) break;
    float inverse_sigma = 0.0f;
    const Tile input = in.sizes.final_norm ? normalised : normed;
    own.load(input, in.x, first, tokens);
    if (in.sizes.final_norm) {
      inverse_sigma = own.normalise(normalised);
      own.scale(normed, normalised, in.norm, in.norm + embed);
    }
    simt::sync_threads();
    multiply<kTokens>(normed, embed, {in.weight, embed}, vocab, [&](int row, int column, const Four& y) {
      store_four(logits[row] + column, y);
      if (!in.logits || first + row >= tokens) return;
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (column + k < vocab) in.logits[(first + row) * vocab + column + k] = y.x[k];
    });
    simt::sync_threads();
    if (in.tokens) {
      const int target = token < tokens ? static_cast<int>(in.tokens[token]) : -1;
      const float nats = cross_entropy(own, logits, vocab, target, in.scale);
      if (in.nats && target >= 0 && simt::thread() % own.kLanes == 0) in.nats[token] = nats;
      simt::sync_threads();
    }
    if (!in.dx) continue;
    add_outer_product<kTokens>(logits, vocab, normed, embed, weight_sums, embed, tile == 0);
    multiply_back<kTokens>(logits, vocab, {in.weight, embed}, embed, [&](int row, int column, const Four& y) {
      if (in.sizes.final_norm)
        store_four(d_normed[row] + column, y);
      else if (first + row < tokens)
        store_four(in.dx + ((first + row) * embed + column), y);
    });
    simt::sync_threads();
    if (!in.sizes.final_norm) continue;
    add_norm_gradients<kTokens>(d_normed, normalised, embed, in.sizes.rms_norm, norm_sums, norm_sums + embed,
                                tile == 0);
    own.normalise_backward(d_normed, normalised, in.norm, inverse_sigma, [&](int column, const Four& dx) {
      if (token < tokens) store_four(in.dx + (token * embed + column), dx);
    });
    simt::sync_threads();
  }
}

constexpr int kClassifierTokens = kTokensOfTile<0>;

/// A block computes one image: the mean of its features, the logits, cross-entropy and gradients. There are few
/// classes, hence plain loops. With registers for more blocks of an SM than this it would spill some.
SIMT_KERNEL(kDenseThreads, /*blocks of an SM=*/6)
classifier_kernel(Classifier in) {
  constexpr int kTokens = kClassifierTokens;
  const int embed = in.sizes.embed, classes = in.sizes.outputs, length = in.sizes.length, image = simt::block();
  const float inverse_length = simt::reciprocal(static_cast<float>(length));
  simt::SharedArena arena;
  const Tile normalised(arena, kTokens, embed, "normalised"), normed(arena, kTokens, embed, "normed"),
      d_normed(arena, kTokens, embed, "d_normed");
  const auto pooled = arena.take<float>(embed, "pooled"), d_pooled = arena.take<float>(embed, "d_pooled"),
             logits = arena.take<float>(classes, "logits"), shared_sum = arena.take<float>(4, "sum");
  const OwnColumns<kTokens> own(embed, in.sizes.rms_norm);
  const auto x = in.x + int64_t{image} * length * embed;
  const auto load = [&](int first) {
    own.load(normalised, x, first, length);
    const float inverse_sigma = in.sizes.final_norm ? own.normalise(normalised) : 0.0f;
    if (in.sizes.final_norm) own.scale(normed, normalised, in.norm, in.norm + embed);
    return inverse_sigma;
  };
  const Tile features = in.sizes.final_norm ? normed : normalised;
  for (int first = 0; first < length; first += kTokens) {
    load(first);
    simt::sync_threads();
    for (int i = simt::thread(); i < embed; i += kDenseThreads) {
      float sum = first == 0 ? 0.0f : static_cast<float>(pooled[i]);
      for (int t = 0; t < kTokens && first + t < length; ++t) sum += features[t][i];
      pooled[i] = first + kTokens < length ? sum : sum * inverse_length;
    }
    simt::sync_threads();
  }
  for (int c = simt::thread(); c < classes; c += kDenseThreads) {
    float logit = in.sizes.bias ? static_cast<float>(in.bias[c]) : 0.0f;
    for (int i = 0; i < embed; ++i) logit = fmaf(in.weight[c * embed + i], pooled[i], logit);
    logits[c] = logit;
    if (in.logits) in.logits[int64_t{image} * classes + c] = logit;
  }
  if (!in.labels) return;
  simt::sync_threads();
  const int label = static_cast<int>(static_cast<int64_t>(in.labels[image]));
  if (simt::thread() == 0) {
    float largest = logits[0], sum = 0.0f;
    for (int c = 1; c < classes; ++c) largest = fmaxf(largest, logits[c]);
    for (int c = 0; c < classes; ++c) sum += simt::exp2_approx((logits[c] - largest) * kLog2E);
    if (in.nats) in.nats[image] = logf(sum) + (largest - logits[label]);
    shared_sum[0] = largest;
    shared_sum[1] = in.scale * simt::reciprocal(sum);
  }
  if (!in.dx) return;
  simt::sync_threads();
  const auto norm_sums = in.sums + image * in.sizes.weights, weight_sums = norm_sums + in.sizes.norm_weights,
             bias_sums = weight_sums + classes * embed;
  for (int c = simt::thread(); c < classes; c += kDenseThreads) {
    const float d =
        simt::exp2_approx((logits[c] - shared_sum[0]) * kLog2E) * shared_sum[1] - (c == label ? in.scale : 0.0f);
    logits[c] = d;
    if (in.sizes.bias) bias_sums[c] = d;
    for (int i = 0; i < embed; ++i) weight_sums[c * embed + i] = d * pooled[i];
  }
  simt::sync_threads();
  for (int i = simt::thread(); i < embed; i += kDenseThreads) {
    float d = 0.0f;
    for (int c = 0; c < classes; ++c) d = fmaf(logits[c], in.weight[c * embed + i], d);
    d_pooled[i] = d * inverse_length;
  }
  simt::sync_threads();
  const auto dx_of_image = in.dx + int64_t{image} * length * embed;
  const auto store_dx = [&](int first, int column, const Four& dx) {
    if (first + own.token >= length) return;
    const auto to = dx_of_image + ((first + own.token) * embed + column);
    store_four(to, in.add_to_dx ? load_four(to) + dx : dx);
  };
  for (int first = 0; first < length; first += kTokens) {
    if (!in.sizes.final_norm) {
      own.each([&](int column) { store_dx(first, column, load_four(d_pooled + column)); });
      continue;
    }
    const float inverse_sigma = load(first);
    const bool inside = first + own.token < length;
    own.each(
        [&](int column) { store_four(d_normed[own.token] + column, inside ? load_four(d_pooled + column) : Four{}); });
    simt::sync_threads();
    add_norm_gradients<kTokens>(d_normed, normalised, embed, in.sizes.rms_norm, norm_sums, norm_sums + embed,
                                first == 0);
    own.normalise_backward(d_normed, normalised, in.norm, inverse_sigma,
                           [&](int column, const Four& dx) { store_dx(first, column, dx); });
    simt::sync_threads();
  }
}

bool head_supports(const HeadSizes& s, int most_outputs) {
  return s.images > 0 && s.length > 0 && dense_supports(s.tokens, s.embed) && s.outputs > 0 &&
         s.outputs <= most_outputs;
}

int head_shared_bytes(const HeadSizes& s) {
  const int tokens = tokens_of_tile(s.embed);
  return (3 * tile_floats(tokens, s.embed) + tile_floats(tokens, s.outputs)) * 4;
}

int classifier_shared_bytes(const HeadSizes& s) {
  return (3 * tile_floats(kClassifierTokens, s.embed) + (2 * s.embed + 8) + (s.outputs + 8)) * 4;
}

const char* head(const Head& a, void* stream) {
  if (!head_supports(a.sizes, kMostTokens)) return kNoKernel;
  const simt::Config config{
      {parts_of(a.sizes.tokens, a.sizes.embed)}, kDenseThreads, head_shared_bytes(a.sizes), stream};
  return with_embed(a.sizes.embed, [&](auto fixed) { return simt::launch(config, head_kernel<fixed()>, a); });
}

const char* classifier(const Classifier& a, void* stream) {
  if (!head_supports(a.sizes, kMostClasses)) return kNoKernel;
  return simt::launch({{a.sizes.images}, kDenseThreads, classifier_shared_bytes(a.sizes), stream}, classifier_kernel,
                      a);
}

}  // namespace igpt::ops::cuda
