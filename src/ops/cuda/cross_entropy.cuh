#pragma once

// The model's end: logits, softmax and cross-entropy with the gradient of all of it, so that logits need not leave the
// chip. 3 V D multiply-adds and V exponentials for a token.

#include "src/ops/cuda/dense_tiles.cuh"
#include "src/ops/cuda/logarithms.cuh"

namespace igpt::ops::cuda {

struct HeadArguments {
  int64_t tokens;
  int embed, vocab;
  bool final_norm;
  int tiles_of_block;
  int64_t sums_of_block;
  float scale;
  simt::ptr<const float> norm_weight, norm_bias, weight, x;
  simt::ptr<const uint8_t> targets;
  simt::ptr<float> nats, logits, dx, norm_weight_sums, norm_bias_sums, weight_sums;
};

constexpr int head_bytes(int tokens, int embed, int vocab) {
  return (3 * tile_floats(tokens, embed) + tile_floats(tokens, vocab)) * 4;
}

/// From the logits of the thread's token to their gradient, in place; 0 where there is no token. Returns the
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
head_cross_entropy(HeadArguments in) {
  constexpr int kTokens = tokens_of_tile<kEmbed>;
  const int embed = kEmbed ? kEmbed : in.embed;
  simt::Arena arena;
  const Tile normalised(arena, kTokens, embed, "normalised"), normed(arena, kTokens, embed, "normed"),
      d_normed(arena, kTokens, embed, "d_normed"), logits(arena, kTokens, in.vocab, "logits");
  const OwnColumns<kTokens> own(embed);
  const int64_t sums = simt::block() * in.sums_of_block;
  for (int tile = 0; tile < in.tiles_of_block; ++tile) {
    const int64_t first = (int64_t{simt::block()} * in.tiles_of_block + tile) * kTokens, token = first + own.token;
    if (first >= in.tokens) break;
    float inverse_sigma = 0.0f;
    const Tile input = in.final_norm ? normalised : normed;
    own.load(input, in.x, first, in.tokens);
    if (in.final_norm) {
      inverse_sigma = own.normalise(normalised);
      own.scale(normed, normalised, in.norm_weight, in.norm_bias);
    }
    simt::sync_threads();
    multiply<kTokens>(normed, embed, {in.weight, embed}, in.vocab, [&](int row, int column, const Four& y) {
      store_four(logits[row] + column, y);
      if (!in.logits || first + row >= in.tokens) return;
#pragma unroll
      for (int k = 0; k < 4; ++k)
        if (column + k < in.vocab) in.logits[(first + row) * in.vocab + column + k] = y.x[k];
    });
    simt::sync_threads();
    if (in.targets) {
      const int target = token < in.tokens ? static_cast<int>(in.targets[token]) : -1;
      const float nats = cross_entropy(own, logits, in.vocab, target, in.scale);
      if (in.nats && target >= 0 && simt::thread() % own.kLanes == 0) in.nats[token] = nats;
      simt::sync_threads();
    }
    if (!in.dx) continue;
    add_outer_product<kTokens>(logits, in.vocab, normed, embed, in.weight_sums + sums, embed, tile == 0);
    multiply_back<kTokens>(logits, in.vocab, {in.weight, embed}, embed, [&](int row, int column, const Four& y) {
      if (in.final_norm)
        store_four(d_normed[row] + column, y);
      else if (first + row < in.tokens)
        store_four(in.dx + ((first + row) * embed + column), y);
    });
    simt::sync_threads();
    if (!in.final_norm) continue;
    add_norm_gradients<kTokens>(d_normed, normalised, embed, in.norm_weight_sums + sums, in.norm_bias_sums + sums,
                                tile == 0);
    own.normalise_backward(d_normed, normalised, in.norm_weight, inverse_sigma, [&](int column, const Four& dx) {
      if (token < in.tokens) store_four(in.dx + (token * embed + column), dx);
    });
    simt::sync_threads();
  }
}

struct ClassifierArguments {
  int length, embed, classes;
  bool final_norm, add_to_dx;
  int64_t sums_of_block;
  float scale;
  simt::ptr<const float> norm_weight, norm_bias, weight, bias, x;
  simt::ptr<const int64_t> labels;
  simt::ptr<float> nats, logits, dx, norm_weight_sums, norm_bias_sums, weight_sums, bias_sums;
};

constexpr int kClassifierTokens = tokens_of_tile<0>;
constexpr int classifier_bytes(int embed, int classes) {
  return (3 * tile_floats(kClassifierTokens, embed) + (2 * embed + 8) + (classes + 8)) * 4;
}

/// Of one image, in a block: the mean of its features, the logits, cross-entropy and gradients. Few classes: plain
/// loops.
SIMT_KERNEL(kDenseThreads)
pooled_classifier(ClassifierArguments in) {
  constexpr int kTokens = kClassifierTokens;
  const int embed = in.embed, image = simt::block();
  const float inverse_length = simt::reciprocal(static_cast<float>(in.length));
  simt::Arena arena;
  const Tile normalised(arena, kTokens, embed, "normalised"), normed(arena, kTokens, embed, "normed"),
      d_normed(arena, kTokens, embed, "d_normed");
  const auto pooled = arena.take<float>(embed, "pooled"), d_pooled = arena.take<float>(embed, "d_pooled"),
             logits = arena.take<float>(in.classes, "logits"), shared_sum = arena.take<float>(4, "sum");
  const OwnColumns<kTokens> own(embed);
  const auto x = in.x + int64_t{image} * in.length * embed;
  const auto load = [&](int first) {
    own.load(normalised, x, first, in.length);
    const float inverse_sigma = in.final_norm ? own.normalise(normalised) : 0.0f;
    if (in.final_norm) own.scale(normed, normalised, in.norm_weight, in.norm_bias);
    return inverse_sigma;
  };
  const Tile features = in.final_norm ? normed : normalised;
  for (int first = 0; first < in.length; first += kTokens) {
    load(first);
    simt::sync_threads();
    for (int i = simt::thread(); i < embed; i += kDenseThreads) {
      float sum = first == 0 ? 0.0f : static_cast<float>(pooled[i]);
      for (int t = 0; t < kTokens && first + t < in.length; ++t) sum += features[t][i];
      pooled[i] = first + kTokens < in.length ? sum : sum * inverse_length;
    }
    simt::sync_threads();
  }
  for (int c = simt::thread(); c < in.classes; c += kDenseThreads) {
    float logit = in.bias[c];
    for (int i = 0; i < embed; ++i) logit = fmaf(in.weight[c * embed + i], pooled[i], logit);
    logits[c] = logit;
    if (in.logits) in.logits[int64_t{image} * in.classes + c] = logit;
  }
  if (!in.labels) return;
  simt::sync_threads();
  const int label = static_cast<int>(static_cast<int64_t>(in.labels[image]));
  if (simt::thread() == 0) {
    float largest = logits[0], sum = 0.0f;
    for (int c = 1; c < in.classes; ++c) largest = fmaxf(largest, logits[c]);
    for (int c = 0; c < in.classes; ++c) sum += simt::exp2_approx((logits[c] - largest) * kLog2E);
    if (in.nats) in.nats[image] = logf(sum) + (largest - logits[label]);
    shared_sum[0] = largest;
    shared_sum[1] = in.scale * simt::reciprocal(sum);
  }
  if (!in.dx) return;
  simt::sync_threads();
  const int64_t sums = image * in.sums_of_block;
  for (int c = simt::thread(); c < in.classes; c += kDenseThreads) {
    const float d =
        simt::exp2_approx((logits[c] - shared_sum[0]) * kLog2E) * shared_sum[1] - (c == label ? in.scale : 0.0f);
    logits[c] = d;
    in.bias_sums[sums + c] = d;
    for (int i = 0; i < embed; ++i) in.weight_sums[sums + c * embed + i] = d * pooled[i];
  }
  simt::sync_threads();
  for (int i = simt::thread(); i < embed; i += kDenseThreads) {
    float d = 0.0f;
    for (int c = 0; c < in.classes; ++c) d = fmaf(logits[c], in.weight[c * embed + i], d);
    d_pooled[i] = d * inverse_length;
  }
  simt::sync_threads();
  const auto dx_of_image = in.dx + int64_t{image} * in.length * embed;
  const auto store_dx = [&](int first, int column, const Four& dx) {
    if (first + own.token >= in.length) return;
    const auto to = dx_of_image + ((first + own.token) * embed + column);
    store_four(to, in.add_to_dx ? load_four(to) + dx : dx);
  };
  for (int first = 0; first < in.length; first += kTokens) {
    if (!in.final_norm) {
      own.each([&](int column) { store_dx(first, column, load_four(d_pooled + column)); });
      continue;
    }
    const float inverse_sigma = load(first);
    const bool inside = first + own.token < in.length;
    own.each(
        [&](int column) { store_four(d_normed[own.token] + column, inside ? load_four(d_pooled + column) : Four{}); });
    simt::sync_threads();
    add_norm_gradients<kTokens>(d_normed, normalised, embed, in.norm_weight_sums + sums, in.norm_bias_sums + sums,
                                first == 0);
    own.normalise_backward(d_normed, normalised, in.norm_weight, inverse_sigma,
                           [&](int column, const Four& dx) { store_dx(first, column, dx); });
    simt::sync_threads();
  }
}

}  // namespace igpt::ops::cuda
