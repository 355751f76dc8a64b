// Draws images pixel by pixel, a block for each image. Weights are read from global memory: those of a small model stay
// in the first-level cache. Four neighbouring lanes compute an output and normalise its inputs themselves, which leaves
// five barriers a layer. A position of the default model takes 26,000 multiply-adds, and up to 25,000 in attention.

#include "src/ops/cuda/sampler.h"

#include "src/ops/cuda/convolution.h"
#include "src/ops/cuda/embedding_rows.cuh"
#include "src/ops/cuda/model_sizes.h"
#include "src/ops/cuda/philox.cuh"

namespace igpt::ops::cuda {

constexpr int kSamplerThreads = 256, kSamplerWarps = kSamplerThreads / 32;
constexpr int kOutputLanes = 4;
constexpr int kMostFours = 4;  // of a lane's share of D

struct SamplerArguments {
  EmbeddingSizes sizes;
  int heads, layers, given;
  bool pre_norm, final_norm, rms_norm, quick_gelu, cache_in_shared;
  ConvolutionSizes convolution;
  double inverse_temperature, top_p;
  int64_t top_k;
  uint64_t seed;
  simt::Global<const float> tables, positions, starts;
  BlockArrays<const float> first_block;
  int64_t floats_of_block;
  simt::Global<const float> norm, head;
  simt::Global<const uint64_t> streams;
  simt::Global<uint8_t> tokens;
  simt::Global<const int64_t> labels;
  simt::Global<float> cache;
  simt::Global<int32_t> faults;
  simt::Global<float> logits;
};

/// Floats of a position in one layer of the cache (sampler_cache_row); in shared memory 16 bytes more, to spread them
/// over its banks.
SIMT_ANYWHERE int cache_row(const SamplerArguments& in, bool in_shared) {
  return (in.convolution.taps > 0 ? 3 : 2) * in.sizes.embed + (in_shared ? 4 : 0);
}
/// Shared memory of a block without the cache.
constexpr int sampler_bytes(int embed, int vocab, int head_dim) {
  return (3 * embed + 4 * embed + kSamplerWarps * (head_dim + 4) + (vocab + 3) / 4 * 4) * 4 +
         2 * 8 * ((vocab + 1) / 2 * 2) + 64;
}

/// A lane's share of a vector of D features: every fourth four of them.
struct Share {
  Four four[kMostFours];

  static SIMT_DEVICE int column(int k) { return (k * kOutputLanes + simt::thread() % kOutputLanes) * 4; }

  static SIMT_DEVICE float sum_of_lanes(float x) {
    x += simt::shuffle_xor(x, 1);
    return x + simt::shuffle_xor(x, 2);
  }

  SIMT_DEVICE Share(simt::ptr<const float> x, int embed) {
#pragma unroll
    for (int k = 0; k < kMostFours; ++k) four[k] = column(k) < embed ? load_four(x + column(k)) : Four{};
  }

  SIMT_DEVICE void store(simt::ptr<float> to, int embed) const {
#pragma unroll
    for (int k = 0; k < kMostFours; ++k)
      if (column(k) < embed) store_four(to + column(k), four[k]);
  }

  /// LayerNorm, or RMSNorm, which takes the mean as zero and has no bias.
  SIMT_DEVICE void layer_norm(simt::ptr<const float> weight, simt::ptr<const float> bias, int embed, bool rms_norm) {
    const float inverse = simt::reciprocal(static_cast<float>(embed));
    float sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int k = 0; k < kMostFours; ++k) sum += four[k].x[0] + four[k].x[1] + (four[k].x[2] + four[k].x[3]);
    const float mean = rms_norm ? 0.0f : sum_of_lanes(sum) * inverse;
#pragma unroll
    for (int k = 0; k < kMostFours; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float d = four[k].x[i] - mean;
        if (column(k) < embed) squares = fmaf(d, d, squares);
      }
    const float inverse_sigma = simt::inverse_sqrt(fmaf(sum_of_lanes(squares), inverse, kNormEps));
#pragma unroll
    for (int k = 0; k < kMostFours; ++k) {
      if (column(k) >= embed) continue;
      const Four gain = load_four(weight + column(k)), shift = rms_norm ? Four{} : load_four(bias + column(k));
#pragma unroll
      for (int i = 0; i < 4; ++i) four[k].x[i] = fmaf((four[k].x[i] - mean) * inverse_sigma, gain.x[i], shift.x[i]);
    }
  }

  /// The convolution's output at position `at`. `read`: what it read at all positions before, a row for each.
  SIMT_DEVICE void convolve(const ConvolutionSizes& sizes, simt::ptr<const float> gains, simt::ptr<const float> read,
                            int row, int at, int embed) {
#pragma unroll 1
    for (int tap = 0; tap < sizes.taps; ++tap) {
      const int position = sizes.offsets.neighbour(at, tap);
      if (position < 0) continue;
#pragma unroll
      for (int k = 0; k < kMostFours; ++k)
        if (column(k) < embed)
          add_product(four[k], load_four(gains + (tap * embed + column(k))),
                      load_four(read + (position * row + column(k))));
    }
  }

  /// This lane's part of the product with a row of weights.
  SIMT_DEVICE float dot(simt::ptr<const float> row, int embed) const {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < kMostFours; ++k) {
      if (column(k) >= embed) continue;
      const Four w = load_four(row + column(k));
#pragma unroll
      for (int i = 0; i < 4; ++i) sum = fmaf(four[k].x[i], w.x[i], sum);
    }
    return sum;
  }
};

/// store(output, y), by one lane of each output, where terms(output) is a lane's part of y.
template <class Terms, class Store>
SIMT_DEVICE void for_outputs(int outputs, Terms terms, Store store) {
  constexpr int kAtOnce = kSamplerThreads / kOutputLanes;
#pragma unroll 1
  for (int first = 0; first < outputs; first += kAtOnce) {
    const int output = first + simt::thread() / kOutputLanes;
    const float y = Share::sum_of_lanes(terms(output < outputs ? output : outputs - 1));
    if (output < outputs && simt::thread() % kOutputLanes == 0) store(output, y);
  }
}

/// A warp's part of a head's softmax, over the keys that it has seen.
struct SoftmaxPart {
  enum { kReference, kSum, kOut = 4 };
};

/// One query against keys 0 to `last`, dealt to the lanes of the head's warps; each warp leaves a part (of d + 4
/// floats).
template <int kHeadDim>
SIMT_DEVICE void attend(simt::ptr<const float> q, simt::ptr<const float> cache, int row, int embed, int heads, int last,
                        simt::ptr<float> parts) {
  const int head = simt::warp() % heads, warps_of_head = kSamplerWarps / heads, warp = simt::warp() / heads;
  if (warp >= warps_of_head) return;
  float reference = -INFINITY, sum = 0.0f, out[kHeadDim] = {};
#pragma unroll 1
  for (int key = warp * 32 + simt::lane(); key <= last; key += warps_of_head * 32) {
    const simt::ptr<const float> k = cache + (key * row + head * kHeadDim), v = k + embed;
    float logit = 0.0f;
#pragma unroll
    for (int i = 0; i < kHeadDim; i += 4) {
      const Four a = load_four(q + (head * kHeadDim + i)), b = load_four(k + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) logit = fmaf(a.x[j], b.x[j], logit);
    }
    const float largest = fmaxf(reference, logit), shrink = simt::exp2_approx(reference - largest),
                p = simt::exp2_approx(logit - largest);
    reference = largest;
    sum = fmaf(sum, shrink, p);
#pragma unroll
    for (int i = 0; i < kHeadDim; i += 4) {
      const Four b = load_four(v + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) out[i + j] = fmaf(out[i + j], shrink, p * b.x[j]);
    }
  }
  float largest = reference;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, simt::shuffle_xor(largest, mask));
  const float shrink = reference == -INFINITY ? 0.0f : simt::exp2_approx(reference - largest);
  sum *= shrink;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum += simt::shuffle_xor(sum, mask);
#pragma unroll
  for (int i = 0; i < kHeadDim; ++i) {
    out[i] *= shrink;
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) out[i] += simt::shuffle_xor(out[i], mask);
  }
  if (simt::lane() > 0) return;
  const auto part = parts + simt::warp() * (kHeadDim + 4);
  part[SoftmaxPart::kReference] = largest;
  part[SoftmaxPart::kSum] = sum;
#pragma unroll
  for (int i = 0; i < kHeadDim; i += 4)
    store_four(part + (SoftmaxPart::kOut + i), Four{{out[i], out[i + 1], out[i + 2], out[i + 3]}});
}

/// Four columns of attention's output, from the parts of the warps of their head.
template <int kHeadDim>
SIMT_DEVICE Four attended(simt::ptr<const float> parts, int heads, int column) {
  const int head = column / kHeadDim, warps_of_head = kSamplerWarps / heads;
  float largest = -INFINITY, sum = 0.0f;
  for (int w = 0; w < warps_of_head; ++w)
    largest = fmaxf(largest, parts[(w * heads + head) * (kHeadDim + 4) + SoftmaxPart::kReference]);
  Four out = {};
  for (int w = 0; w < warps_of_head; ++w) {
    const auto part = parts + (w * heads + head) * (kHeadDim + 4);
    const float reference = part[SoftmaxPart::kReference];
    const float shrink = reference == -INFINITY ? 0.0f : simt::exp2_approx(reference - largest);
    const Four term = load_four(part + (SoftmaxPart::kOut + column % kHeadDim));
    sum = fmaf(part[SoftmaxPart::kSum], shrink, sum);
#pragma unroll
    for (int i = 0; i < 4; ++i) out.x[i] = fmaf(term.x[i], shrink, out.x[i]);
  }
  const float inverse = simt::reciprocal(sum);
#pragma unroll
  for (int i = 0; i < 4; ++i) out.x[i] *= inverse;
  return out;
}

/// What the threads of a block share.
struct SamplerMemory {
  simt::ptr<float> h, residual, q, hidden, parts, logits;
  simt::ptr<double> probabilities, sorted;
};

/// A block of the model at position `at`: `memory.h` in and out.
template <int kHeadDim>
SIMT_DEVICE void decode_block(const SamplerArguments& in, const SamplerMemory& memory, int layer,
                              simt::ptr<float> cache, int at) {
  const int embed = in.sizes.embed, row = cache_row(in, in.cache_in_shared);
  const BlockArrays<const float>& first = in.first_block;
  const int64_t to_layer = layer * in.floats_of_block;
  const float scale = simt::inverse_sqrt(static_cast<float>(kHeadDim)) * kLog2E;
  {
    Share x(memory.h, embed);
    if (simt::thread() < kOutputLanes && in.pre_norm) x.store(memory.residual, embed);
    x.layer_norm(first.ln_1_weight + to_layer, first.ln_1_bias + to_layer, embed, in.rms_norm);
    if (simt::thread() < kOutputLanes && !in.pre_norm) x.store(memory.residual, embed);
    for_outputs(
        3 * embed, [&](int o) { return x.dot(first.in_weight + (to_layer + o * embed), embed); },
        [&](int o, float y) {
          y += first.in_bias[to_layer + o];
          if (o < embed)
            memory.q[o] = y * scale;
          else
            cache[at * row + (o - embed)] = y;
        });
  }
  simt::sync_threads();
  attend<kHeadDim>(memory.q, cache, row, embed, in.heads, at, memory.parts);
  simt::sync_threads();
  {
    Share x(memory.h, embed);
#pragma unroll
    for (int k = 0; k < kMostFours; ++k)
      if (Share::column(k) < embed) x.four[k] = attended<kHeadDim>(memory.parts, in.heads, Share::column(k));
    for_outputs(
        embed, [&](int o) { return x.dot(first.out_weight + (to_layer + o * embed), embed); },
        [&](int o, float y) { memory.residual[o] += y + first.out_bias[to_layer + o]; });
  }
  simt::sync_threads();
  {
    Share x(memory.residual, embed);
    x.layer_norm(first.ln_2_weight + to_layer, first.ln_2_bias + to_layer, embed, in.rms_norm);
    if (in.convolution.taps > 0) {
      const auto read = cache + 2 * embed;  // behind key and value
      if (simt::thread() < kOutputLanes) x.store(read + at * row, embed);
      x.convolve(in.convolution, first.conv_weight + to_layer, read, row, at, embed);
    }
    for_outputs(
        4 * embed, [&](int o) { return x.dot(first.up_weight + (to_layer + o * embed), embed); },
        [&](int o, float y) {
          y += first.up_bias[to_layer + o];
          memory.hidden[o] = y * (in.quick_gelu ? Logistic(y).cdf : Normal(y).cdf);
        });
  }
  simt::sync_threads();
  for_outputs(
      embed,
      [&](int o) {
        float sum = 0.0f;
        for (int i = simt::thread() % kOutputLanes * 4; i < 4 * embed; i += kOutputLanes * 4) {
          const Four a = load_four(memory.hidden + i),
                     w = load_four(first.down_weight + (to_layer + o * 4 * embed + i));
#pragma unroll
          for (int j = 0; j < 4; ++j) sum = fmaf(a.x[j], w.x[j], sum);
        }
        return sum;
      },
      [&](int o, float y) { memory.h[o] = memory.residual[o] + (y + first.down_bias[to_layer + o]); });
  simt::sync_threads();
}

/// igpt::sampling::draw, up to the rounding of exp, with all sums in its order; thread 0 gets the token.
SIMT_DEVICE int draw_token(const SamplerArguments& in, const SamplerMemory& memory, int image, int at) {
  const int vocab = in.sizes.vocab, v = simt::thread();
  const auto p = memory.probabilities;
  if (v < vocab) {
    float largest = memory.logits[0];
    for (int i = 1; i < vocab; ++i) largest = fmaxf(largest, memory.logits[i]);
    p[v] = exp((static_cast<double>(static_cast<float>(memory.logits[v])) - largest) * in.inverse_temperature);
  }
  simt::sync_threads();
  if (in.top_k > 0 || in.top_p < 1.0) {
    int rank = 0;  // the most likely first; of equals the lower one
    const double mine = v < vocab ? static_cast<double>(p[v]) : 0.0;
    for (int i = 0; i < vocab && v < vocab; ++i) {
      const double other = p[i];
      rank += other > mine || (other == mine && i < v);
    }
    if (v < vocab) memory.sorted[rank] = mine;
    simt::sync_threads();
    if (v < vocab) {
      const int kept = in.top_k > 0 && in.top_k < vocab ? static_cast<int>(in.top_k) : vocab;
      double before = 0.0, total = 0.0;
      for (int i = 0; i < kept; ++i) {
        if (i == rank) before = total;
        total += static_cast<double>(memory.sorted[i]);
      }
      const bool in_nucleus = in.top_p >= 1.0 || rank == 0 || before < in.top_p * total;
      if (rank >= kept || !in_nucleus) p[v] = 0.0;
    }
    simt::sync_threads();
  }
  if (v > 0) return 0;
  double total = 0.0, reached = 0.0;
  for (int i = 0; i < vocab; ++i) total += static_cast<double>(p[i]);
  const double threshold = philox_uniform(in.seed, in.streams[image], static_cast<uint64_t>(at)) * total;
  int token = 0;
  for (int i = 0; i < vocab; ++i) {
    if (p[i] == 0.0) continue;
    token = i;
    reached += static_cast<double>(p[i]);
    if (threshold < reached) break;
  }
  return token;
}

template <int kHeadDim>
SIMT_KERNEL(kSamplerThreads, /*blocks of an SM=*/kHeadDim == 8 ? 2 : 1)
sample_images(SIMT_ARGUMENT SamplerArguments in) {
  const int embed = in.sizes.embed, vocab = in.sizes.vocab, length = in.sizes.length, image = simt::block();
  simt::SharedArena arena;
  const SamplerMemory memory{arena.take<float>(embed, "h"),
                             arena.take<float>(embed, "residual"),
                             arena.take<float>(embed, "q"),
                             arena.take<float>(4 * embed, "hidden"),
                             arena.take<float>(kSamplerWarps * (kHeadDim + 4), "softmax parts"),
                             arena.take<float>(vocab, "logits"),
                             arena.take<double>(vocab, "probabilities"),
                             arena.take<double>(vocab, "sorted probabilities")};
  const int layer_rows = length * cache_row(in, in.cache_in_shared);
  const auto cache = in.cache_in_shared ? arena.take<float>(in.layers * layer_rows, "keys and values")
                                        : in.cache + int64_t{image} * in.layers * layer_rows;
  const auto tokens = in.tokens + int64_t{image} * length;
  const auto start = [&] { return in.starts + in.labels[image] * embed; };
  bool finite = true;
  for (int at = 0; at < length; ++at) {
    for (int column = simt::thread() * 4; column < embed; column += kSamplerThreads * 4)
      store_four(memory.h + column, embedded(in.sizes, in.tables, in.positions, tokens, at, column, start));
    simt::sync_threads();
    for (int layer = 0; layer < in.layers; ++layer)
      decode_block<kHeadDim>(in, memory, layer, cache + int64_t{layer} * layer_rows, at);
    if (at < in.given && !in.logits) continue;
    Share x(memory.h, embed);
    if (in.final_norm) x.layer_norm(in.norm, in.norm + embed, embed, in.rms_norm);
    for_outputs(
        vocab, [&](int o) { return x.dot(in.head + o * embed, embed); },
        [&](int o, float y) {
          memory.logits[o] = y;
          if (in.logits) in.logits[(int64_t{image} * length + at) * vocab + o] = y;
        });
    simt::sync_threads();
    if (at < in.given) continue;
    const int token = draw_token(in, memory, image, at);
    if (simt::thread() == 0) {
      for (int i = 0; i < vocab; ++i) finite = finite && fabsf(memory.logits[i]) < INFINITY;
      tokens[at] = static_cast<uint8_t>(token);
    }
    simt::sync_threads();
  }
  if (simt::thread() == 0) in.faults[image] = finite ? 0 : 1;
}

namespace {

template <int kHeadDim>
const char* launch(SamplerArguments arguments, int64_t images, void* stream) {
  simt::Limits limits;
  if (const char* cause = simt::limits(limits)) return cause;
  const int embed = arguments.sizes.embed;
  int64_t bytes = sampler_bytes(embed, arguments.sizes.vocab, kHeadDim);
  const int64_t with_cache =
      bytes + int64_t{4} * arguments.layers * arguments.sizes.length * cache_row(arguments, true);
  arguments.cache_in_shared = with_cache <= limits.shared_bytes;
  if (arguments.cache_in_shared) bytes = with_cache;
  return simt::launch({{images}, kSamplerThreads, static_cast<int>(bytes), stream}, sample_images<kHeadDim>, arguments);
}

}  // namespace

int sampler_shared_bytes(const ModelShape& s) {
  return sampler_bytes(static_cast<int>(s.embed_dim), static_cast<int>(s.num_vocab), static_cast<int>(s.head_dim()));
}

const char* sample(const Sampler& a, void* stream) {
  const ModelShape& s = a.shape;
  if (!has_kernels(s, a.images)) return kNoKernel;
  const ParameterTable at(s);
  const EmbeddingSizes embedding(s, a.images);
  const TokenTableSizes tables(s);
  const float* first_table = a.weights + embedding.first_table(at);
  if (tables.rank > 0) {
    float* const products = a.cache + (sampler_cache_floats(s, a.images) - tables.count());
    if (const char* cause =
            token_tables({tables, a.weights + at.token_embeddings, a.weights + at.projections, products}, stream))
      return cause;
    first_table = products;
  }
  const SamplerArguments arguments{embedding,
                                   static_cast<int>(s.num_heads),
                                   static_cast<int>(s.num_layers),
                                   static_cast<int>(a.given),
                                   s.pre_norm,
                                   s.final_norm,
                                   s.rms_norm,
                                   s.quick_gelu,
                                   /*cache_in_shared=*/false,
                                   ConvolutionSizes(s, a.images),
                                   1.0 / a.options.temperature,
                                   a.options.top_p,
                                   a.options.top_k,
                                   a.options.seed,
                                   first_table,
                                   a.weights + at.position_embeddings,
                                   a.weights + embedding.first_start(at),
                                   block_arrays(a.weights + at.blocks.front().ln_1_weight, s),
                                   at.block_count(),
                                   a.weights + at.ln_f_weight,
                                   a.weights + at.head,
                                   a.streams,
                                   a.tokens,
                                   a.labels,
                                   a.cache,
                                   a.faults,
                                   a.logits};
  if (s.head_dim() == 8) return launch<8>(arguments, a.images, stream);
  if (s.head_dim() == 16) return launch<16>(arguments, a.images, stream);
  return launch<32>(arguments, a.images, stream);
}

}  // namespace igpt::ops::cuda
