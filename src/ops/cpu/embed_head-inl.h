// What surrounds the blocks: the embeddings before them; after them ln_f, the head with its loss, and the classifier on
// the pooled features.

#if defined(IGPT_OPS_CPU_EMBED_HEAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef IGPT_OPS_CPU_EMBED_HEAD_INL_H_
#undef IGPT_OPS_CPU_EMBED_HEAD_INL_H_
#else
#define IGPT_OPS_CPU_EMBED_HEAD_INL_H_
#endif

#include "src/ops/cpu/dense-inl.h"
#include "src/ops/cpu/layout.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

/// The rows of PackedWeights::tokens that position `s` adds up, and their number: behind the image's end the row of
/// zeros.
HWY_INLINE int embedding_rows(const Layout& layout, const TokenImage& image, int64_t s, int64_t* rows) {
  if (s < layout.shape.sequence_length) return layout.embedding.find(image.tokens, image.start, s, rows);
  rows[0] = layout.embedding.rows();
  return 1;
}

HWY_NOINLINE void embed(const PackedWeights& weights, const TokenImage& image, float* x) {
  const Layout& layout = weights.layout;
  const int stride = layout.embed_chunks * N;
  int64_t of_position[EmbeddingRows::kMost];
  for (int tile = 0; tile < layout.tiles; ++tile)
    for (int first = 0; first < layout.embed_rows; first += N) {
      V rows[N];
      for (int t = 0; t < N; ++t) {
        const int count = embedding_rows(layout, image, int64_t{tile} * N + t, of_position);
        V sum = zero();
        for (int i = 0; i < count; ++i) sum = hn::Add(sum, load(weights.tokens + of_position[i] * stride + first));
        rows[t] = sum;
      }
      transpose(rows);
      const int64_t at = (int64_t{tile} * layout.embed_rows + first) * N;
      for (int i = 0; i < HWY_MIN(N, layout.embed_rows - first); ++i)
        store(hn::Add(rows[i], load(weights.positions + at + i * N)), x + at + i * N);
    }
}

HWY_NOINLINE void embed_backward(const Layout& layout, const TokenImage& image, const float* dx, Gradients& g) {
  const int stride = layout.embed_chunks * N;
  int64_t of_position[EmbeddingRows::kMost];
  for (int tile = 0; tile < layout.tiles; ++tile)
    for (int first = 0; first < layout.embed_rows; first += N) {
      const int64_t at = (int64_t{tile} * layout.embed_rows + first) * N;
      V rows[N];
      load_transposed(dx + at, layout.embed_rows - first, rows);
      add_rows(dx + at, HWY_MIN(N, layout.embed_rows - first), g.positions + at);
      for (int t = 0; t < N; ++t) {
        const int count = embedding_rows(layout, image, int64_t{tile} * N + t, of_position);
        for (int i = 0; i < count; ++i) add_to(g.tokens + of_position[i] * stride + first, rows[t]);
      }
    }
}

/// The last layer norm.
HWY_NOINLINE void final_norm(const PackedWeights& weights, Workspace& work) {
  const Layout& layout = weights.layout;
  for (int tile = 0; tile < layout.tiles; ++tile) {
    const int64_t rows = int64_t{tile} * layout.embed_rows * N;
    float* const normalised = work.normalised_f + rows;
    store(normalise(work.x + rows, layout.embed, layout.shape.rms_norm, normalised), work.inverse_sigma_f + tile * N);
    scale_rows(normalised, weights.ln_f_weight, weights.ln_f_bias, layout.embed_rows, work.x + rows);
  }
}

HWY_NOINLINE void final_norm_backward(const PackedWeights& weights, Workspace& work, Gradients& g) {
  const Layout& layout = weights.layout;
  for (int tile = 0; tile < layout.tiles; ++tile) {
    const int64_t rows = int64_t{tile} * layout.embed_rows * N;
    normalise_backward(work.normalised_f + rows, load(work.inverse_sigma_f + tile * N), weights.ln_f_weight,
                       layout.embed, layout.shape.rms_norm, work.x + rows, g.ln_f_weight, g.ln_f_bias);
  }
}

/// Logits of a tile, [vocab_rows][N].
HWY_INLINE void head_logits(const PackedWeights& weights, const float* x, float* logits) {
  multiply(
      weights.head_t, weights.layout.vocab_rows, weights.layout.embed_rows, x, [](int) IGPT_LAMBDA { return zero(); },
      [&](int row, V y) IGPT_LAMBDA { store(y, logits + row * N); });
}

HWY_NOINLINE void logits_of_image(const PackedWeights& weights, Workspace& work, float* logits) {
  const Layout& layout = weights.layout;
  const int64_t length = layout.shape.sequence_length, vocab = layout.shape.num_vocab;
  for (int64_t s = 0; s < length; ++s) {
    if (s % N == 0) head_logits(weights, work.x + s * layout.embed_rows, work.logits);
    for (int64_t v = 0; v < vocab; ++v) logits[s * vocab + v] = work.logits[v * N + s % N];
  }
}

/// Cross-entropy of one tile, summed, in nats; work.logits becomes exp2((logits - largest) log2 e), of which
/// `inverse_sum` makes probabilities.
HWY_INLINE double tile_nats(const Layout& layout, const uint8_t* tokens, int count, float* logits, V& inverse_sum) {
  const int vocab = static_cast<int>(layout.shape.num_vocab);
  HWY_ALIGN float nats[N];
  for (int t = 0; t < count; ++t) nats[t] = logits[tokens[t] * N + t];
  V largest = load(logits);
  for (int v = 1; v < vocab; ++v) largest = hn::Max(load(logits + v * N), largest);
  V sum = zero();
  IGPT_UNROLL(4)
  for (int v = 0; v < vocab; ++v) {
    const V e = exp2(hn::Mul(hn::Sub(load(logits + v * N), largest), all(1.44269504f)));
    store(e, logits + v * N);
    sum = hn::Add(sum, e);
  }
  inverse_sum = hn::Div(all(1.0f), sum);
  HWY_ALIGN float log_sum_exp[N];
  store(hn::MulAdd(log2(sum), all(0.693147181f), largest), log_sum_exp);
  double total = 0;
  for (int t = 0; t < count; ++t) total += log_sum_exp[t] - nats[t];
  return total;
}

HWY_INLINE int tokens_in_tile(const Layout& layout, int tile) {
  return static_cast<int>(HWY_MIN(int64_t{N}, layout.shape.sequence_length - int64_t{tile} * N));
}

/// Sum of the cross-entropies of an image, nats.
HWY_NOINLINE double head_forward(const PackedWeights& weights, const uint8_t* tokens, Workspace& work) {
  const Layout& layout = weights.layout;
  double total = 0;
  for (int tile = 0; tile < layout.tiles; ++tile) {
    head_logits(weights, work.x + int64_t{tile} * layout.embed_rows * N, work.logits);
    V inverse_sum;
    total += tile_nats(layout, tokens + tile * N, tokens_in_tile(layout, tile), work.logits, inverse_sum);
  }
  return total;
}

/// The same; work.x becomes the gradient of `scale` times the sum.
HWY_NOINLINE double head_forward_backward(const PackedWeights& weights, const uint8_t* tokens, float scale,
                                          Workspace& work, Gradients& g) {
  const Layout& layout = weights.layout;
  double total = 0;
  for (int tile = 0; tile < layout.tiles; ++tile) {
    float* const x = work.x + int64_t{tile} * layout.embed_rows * N;
    const uint8_t* const tokens_of_tile = tokens + tile * N;
    const int count = tokens_in_tile(layout, tile);
    head_logits(weights, x, work.logits);
    V inverse_sum;
    total += tile_nats(layout, tokens_of_tile, count, work.logits, inverse_sum);
    const V factor = hn::IfThenElseZero(hn::Lt(hn::Iota(kFloats, 0.0f), all(static_cast<float>(count))),
                                        hn::Mul(inverse_sum, all(scale)));
    for (int v = 0; v < layout.shape.num_vocab; ++v)
      store(hn::Mul(load(work.logits + v * N), factor), work.logits + v * N);
    for (int v = static_cast<int>(layout.shape.num_vocab); v < layout.vocab_rows; ++v)
      store(zero(), work.logits + v * N);
    for (int t = 0; t < count; ++t) work.logits[tokens_of_tile[t] * N + t] -= scale;
    add_outer_product(work.logits, layout.vocab_rows, x, layout.embed_rows, g.head);
    multiply(
        weights.head, layout.embed_rows, layout.vocab_rows, work.logits, [](int) IGPT_LAMBDA { return zero(); },
        [&](int row, V y) IGPT_LAMBDA { store(y, x + row * N); });
  }
  return total;
}

/// Mean of each feature over the image's positions.
HWY_INLINE void pool(const Layout& layout, const float* x, double* pooled) {
  for (int i = 0; i < layout.embed; ++i) {
    double total = 0;
    for (int tile = 0; tile < layout.tiles; ++tile)
      for (int t = 0; t < tokens_in_tile(layout, tile); ++t)
        total += x[(int64_t{tile} * layout.embed_rows + i) * N + t];
    pooled[i] = total / static_cast<double>(layout.shape.sequence_length);
  }
}

/// Class logits, (C). One image has a few hundred products of this kind: plain loops.
HWY_INLINE void class_logits_of_pooled(const PackedWeights& weights, const double* pooled, float* logits) {
  const Layout& layout = weights.layout;
  for (int64_t c = 0; c < layout.shape.num_classes; ++c) {
    double total = weights.clf_bias ? weights.clf_bias[c] : 0;
    for (int i = 0; i < layout.embed; ++i) total += pooled[i] * weights.clf_weight[c * layout.embed + i];
    logits[c] = static_cast<float>(total);
  }
}

HWY_NOINLINE void class_logits_of_image(const PackedWeights& weights, const float* x, float* logits) {
  double pooled[128];
  pool(weights.layout, x, pooled);
  class_logits_of_pooled(weights, pooled, logits);
}

/// Cross-entropy of the image's class, nats; d_features (D) becomes the gradient of `scale` times it by the features of
/// a position, whichever.
HWY_NOINLINE double classifier_forward_backward(const PackedWeights& weights, int64_t label, float scale,
                                                Workspace& work, Gradients& g, float* d_features) {
  const Layout& layout = weights.layout;
  const int64_t classes = layout.shape.num_classes;
  double pooled[128], d_pooled[128] = {};
  pool(layout, work.x, pooled);
  float* const logits = work.class_logits;
  class_logits_of_pooled(weights, pooled, logits);
  const double largest = *std::max_element(logits, logits + classes);
  double sum = 0;
  for (int64_t c = 0; c < classes; ++c) sum += std::exp(logits[c] - largest);
  const double nats = std::log(sum) + largest - logits[label];
  for (int64_t c = 0; c < classes; ++c) {
    const double d = scale * (std::exp(logits[c] - largest) / sum - (c == label ? 1 : 0));
    g.clf_bias[c] += static_cast<float>(d);
    for (int i = 0; i < layout.embed; ++i) {
      g.clf_weight[c * layout.embed + i] += static_cast<float>(d * pooled[i]);
      d_pooled[i] += d * weights.clf_weight[c * layout.embed + i];
    }
  }
  for (int i = 0; i < layout.embed; ++i)
    d_features[i] = static_cast<float>(d_pooled[i] / static_cast<double>(layout.shape.sequence_length));
  return nats;
}

/// Adds d_features (D) to each position's row of dx.
HWY_INLINE void add_to_positions(const Layout& layout, const float* d_features, float* dx) {
  for (int tile = 0; tile < layout.tiles; ++tile)
    for (int i = 0; i < layout.embed; ++i) {
      float* const row = dx + (int64_t{tile} * layout.embed_rows + i) * N;
      for (int t = 0; t < tokens_in_tile(layout, tile); ++t) row[t] += d_features[i];
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#endif
