// A transformer block of one image, forward and backward (igpt/model/image_gpt.h, BlockImpl), tile by tile but for
// attention.

#if defined(IGPT_OPS_CPU_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef IGPT_OPS_CPU_BLOCK_INL_H_
#undef IGPT_OPS_CPU_BLOCK_INL_H_
#else
#define IGPT_OPS_CPU_BLOCK_INL_H_
#endif

#include "src/ops/cpu/attention-inl.h"
#include "src/ops/cpu/convolution-inl.h"
#include "src/ops/cpu/dense-inl.h"
#include "src/ops/cpu/layout.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

/// Sizes of any model.
struct AnySizes {
  explicit AnySizes(const Layout& s)
      : embed(s.embed),
        embed_rows(s.embed_rows),
        heads(s.heads),
        head_rows(s.head_rows),
        attention_rows(s.attention_rows),
        hidden_rows(s.hidden_rows),
        pair_stride(s.pair_stride),
        pre_norm(s.shape.pre_norm),
        rms_norm(s.shape.rms_norm),
        quick_gelu(s.shape.quick_gelu),
        convolves(s.shape.conv_taps > 0) {}

  int embed, embed_rows, heads, head_rows, attention_rows, hidden_rows, pair_stride;
  bool pre_norm, rms_norm, quick_gelu, convolves;
};

/// Sizes known to the compiler, for the default model.
template <int kEmbed, int kHeads, bool kPreNorm>
struct FixedSizes {
  explicit FixedSizes(const Layout&) {}
  static bool fits(const Layout& s) {
    return s.embed == kEmbed && s.heads == kHeads && s.shape.pre_norm == kPreNorm && !s.shape.rms_norm &&
           !s.shape.quick_gelu && s.shape.conv_taps == 0;
  }

  static constexpr bool pre_norm = kPreNorm, rms_norm = false, quick_gelu = false, convolves = false;
  static constexpr int embed = kEmbed, embed_rows = kEmbed, heads = kHeads, head_rows = kEmbed / kHeads,
                       attention_rows = kEmbed, hidden_rows = 4 * kEmbed, pair_stride = kPairStride<kEmbed / kHeads>;
  static_assert(kEmbed % 8 == 0 && (head_rows & (head_rows - 1)) == 0);
};

/// Row of `pairs` (both of every head) for feature `row` of all heads.
template <class Sizes>
HWY_INLINE int pairs_row(const Sizes& s, bool interleaved, int which, int row) {
  const int head = row / s.head_rows, i = row % s.head_rows;
  return head * 2 * s.head_rows + (interleaved ? 2 * i + which : which * s.head_rows + i);
}

template <class Sizes>
HWY_INLINE bool is_interleaved(const Sizes& s) {
  return N >= 4 && 2 * s.head_rows <= N;
}

/// Rows of two features of every head, (2 head_rows)[N] -> a row for each token and head, and back.
template <class Sizes>
HWY_INLINE void pairs_to_tokens(const Sizes& s, const float* pairs, int tile, int64_t tokens, float* rows) {
  for (int head = 0; head < s.heads; ++head, pairs += 2 * s.head_rows * N)
    for (int first = 0; first < 2 * s.head_rows; first += N) {
      V token[N];
      load_transposed(pairs + first * N, 2 * s.head_rows - first, token);
      float* const to = rows + (head * tokens + int64_t{tile} * N) * s.pair_stride + first;
      IGPT_UNROLL(16)
      for (int t = 0; t < N; ++t) store(token[t], to + t * s.pair_stride);
    }
}
template <class Sizes>
HWY_INLINE void tokens_to_pairs(const Sizes& s, const float* rows, int tile, int64_t tokens, float* pairs) {
  for (int head = 0; head < s.heads; ++head, pairs += 2 * s.head_rows * N)
    for (int first = 0; first < 2 * s.head_rows; first += N) {
      V token[N];
      const float* const from = rows + (head * tokens + int64_t{tile} * N) * s.pair_stride + first;
      IGPT_UNROLL(16)
      for (int t = 0; t < N; ++t) token[t] = load(from + t * s.pair_stride);
      transpose(token);
      const int count = HWY_MIN(N, 2 * s.head_rows - first);
      IGPT_UNROLL(16)
      for (int i = 0; i < N; ++i)
        if (i < count) store(token[i], pairs + (first + i) * N);
    }
}

/// q, k and v of a tile from ln_1's output: q stays as it is, k and v become rows of tokens.
template <class Sizes>
HWY_INLINE void project_in(const Sizes& s, const BlockWeights& w, const float* normed, int tile, Workspace& work) {
  float* const q = work.q + int64_t{tile} * s.attention_rows * N;
  const int rows = s.attention_rows;
  const auto bias = [&](int row) IGPT_LAMBDA { return all(w.in_bias[row]); };
  multiply(w.in_t, 3 * rows, s.embed_rows, normed, bias, [&](int row, V x) IGPT_LAMBDA {
    if (row < rows) {
      store(x, q + row * N);
    } else {
      const int which = row < 2 * rows ? 0 : 1, feature = row - (1 + which) * rows;
      if (feature < s.heads * s.head_rows)
        store(x, work.pairs + pairs_row(s, /*interleaved=*/false, which, feature) * N);
    }
  });
  pairs_to_tokens(s, work.pairs, tile, work.layout.padded_tokens(), work.kv);
}

template <class Sizes>
HWY_NOINLINE void layer_norm_qkv(const Sizes& s, const BlockWeights& w, const BlockActivations& saved,
                                 Workspace& work) {
  for (int tile = 0; tile < work.layout.tiles; ++tile) {
    const int64_t rows = int64_t{tile} * s.embed_rows * N;
    float* const normalised = saved.normalised_1 + rows;
    store(normalise(work.x + rows, s.embed, s.rms_norm, normalised), saved.inverse_sigma_1 + tile * N);
    scale_rows(normalised, w.ln_1_weight, w.ln_1_bias, s.embed_rows, work.normed);
    project_in(s, w, work.normed, tile, work);
  }
}

/// x = attended + mlp(ln_2(attended)), attended = ln_1's output (or x) + out_proj(attention). In the default model
/// 3,072 multiply-adds and 64 GELU per tile, with layer_norm_qkv: half of the peak of multiply-adds without
/// GELU's.
template <class Sizes>
HWY_NOINLINE void out_proj_mlp(const Sizes& s, const BlockWeights& w, const BlockActivations& saved, Workspace& work) {
  for (int tile = 0; tile < work.layout.tiles; ++tile) {
    const int64_t rows = int64_t{tile} * s.embed_rows * N;
    float *const x = work.x + rows, *const normalised = saved.normalised_2 + rows;
    const float* const attended = saved.attended + int64_t{tile} * s.attention_rows * N;
    const auto residual = [&](int row) IGPT_LAMBDA {
      const V from =
          s.pre_norm ? load(x + row * N) : scaled(saved.normalised_1 + rows, w.ln_1_weight, w.ln_1_bias, row);
      return hn::Add(from, all(w.out_bias[row]));
    };
    multiply(w.out_t, s.embed_rows, s.attention_rows, attended, residual,
             [&](int row, V y) IGPT_LAMBDA { store(y, x + row * N); });
    store(normalise(x, s.embed, s.rms_norm, normalised), saved.inverse_sigma_2 + tile * N);
    scale_rows(normalised, w.ln_2_weight, w.ln_2_bias, s.embed_rows, work.normed);
    if (s.convolves) {
      store_to_plane(work.layout, work.normed, tile, work.plane);
      convolve(work.layout, w.conv, work.plane, tile, work.normed);
    }
    multiply(
        w.up_t, s.hidden_rows, s.embed_rows, work.normed, [&](int row) IGPT_LAMBDA { return all(w.up_bias[row]); },
        [&](int row, V y) IGPT_LAMBDA { store(y, work.hidden + row * N); });
    IGPT_UNROLL(4)
    for (int i = 0; i < s.hidden_rows; ++i) {
      V slope;
      store(gelu(load(work.hidden + i * N), s.quick_gelu, slope), work.hidden + i * N);
    }
    multiply(
        w.down_t, s.embed_rows, s.hidden_rows, work.hidden,
        [&](int row) IGPT_LAMBDA { return hn::Add(load(x + row * N), all(w.down_bias[row])); },
        [&](int row, V y) IGPT_LAMBDA { store(y, x + row * N); });
  }
}

/// From the gradient of the block's output (work.x) back to that of `attended` (work.x_2) and of attention's output,
/// with the hidden units computed again. With a convolution, work.plane has ln_2's output of all tiles, and
/// work.d_plane the gradient of the convolution's output of the tiles behind this one.
template <class Sizes>
HWY_INLINE void mlp_backward(const Sizes& s, const BlockWeights& w, const BlockActivations& saved, int tile,
                             Workspace& work, BlockGradients& g) {
  const int64_t rows = int64_t{tile} * s.embed_rows * N;
  const float *const d_out = work.x + rows, *const normalised = saved.normalised_2 + rows;
  float* const d_in = work.x_2 + rows;
  if (s.convolves)
    convolve(work.layout, w.conv, work.plane, tile, work.normed);
  else
    scale_rows(normalised, w.ln_2_weight, w.ln_2_bias, s.embed_rows, work.normed);
  multiply(
      w.up_t, s.hidden_rows, s.embed_rows, work.normed, [&](int row) IGPT_LAMBDA { return all(w.up_bias[row]); },
      [&](int row, V y) IGPT_LAMBDA { store(y, work.hidden + row * N); });
  multiply(
      w.down, s.hidden_rows, s.embed_rows, d_out, [](int) IGPT_LAMBDA { return zero(); },
      [&](int row, V y) IGPT_LAMBDA { store(y, work.d_hidden + row * N); });
  IGPT_UNROLL(4)
  for (int i = 0; i < s.hidden_rows; ++i) {
    V slope;
    store(gelu(load(work.hidden + i * N), s.quick_gelu, slope), work.hidden + i * N);
    const V d = hn::Mul(load(work.d_hidden + i * N), slope);
    store(d, work.d_hidden + i * N);
    add_to(g.up_bias + i * N, d);
  }
  add_rows(d_out, s.embed_rows, g.down_bias);
  add_outer_product(work.hidden, s.hidden_rows, d_out, s.embed_rows, g.down_t);
  add_outer_product(work.d_hidden, s.hidden_rows, work.normed, s.embed_rows, g.up);
  multiply(
      w.up, s.embed_rows, s.hidden_rows, work.d_hidden, [](int) IGPT_LAMBDA { return zero(); },
      [&](int row, V y) IGPT_LAMBDA { store(y, d_in + row * N); });
  if (s.convolves) {
    store_to_plane(work.layout, d_in, tile, work.d_plane);
    convolve_backward(work.layout, w.conv, work.plane, work.d_plane, tile, d_in, g.conv);
  }
  normalise_backward(normalised, load(saved.inverse_sigma_2 + tile * N), w.ln_2_weight, s.embed, s.rms_norm, d_in,
                     g.ln_2_weight, g.ln_2_bias);
  IGPT_UNROLL(16)
  for (int i = 0; i < s.embed_rows; ++i) add_to(d_in + i * N, load(d_out + i * N));
}

/// Back to attention's q, k, v and its output's gradient. In the default model 5,632 multiply-adds and 64 GELU per
/// tile, and 2,304 in layer_norm_qkv_backward: 60% of the peak of multiply-adds without GELU's.
template <class Sizes>
HWY_NOINLINE void out_proj_mlp_backward(const Sizes& s, const BlockWeights& w, const BlockActivations& saved,
                                        Workspace& work, BlockGradients& g) {
  const int64_t tokens = work.layout.padded_tokens();
  for (int tile = 0; s.convolves && tile < work.layout.tiles; ++tile) {
    const float* const normalised = saved.normalised_2 + int64_t{tile} * s.embed_rows * N;
    scale_rows(normalised, w.ln_2_weight, w.ln_2_bias, s.embed_rows, work.normed);
    store_to_plane(work.layout, work.normed, tile, work.plane);
  }
  for (int tile = work.layout.tiles; tile-- > 0;) {  // from the last on: a convolution sends gradients back
    mlp_backward(s, w, saved, tile, work, g);
    const int64_t rows = int64_t{tile} * s.embed_rows * N, attention_rows = int64_t{tile} * s.attention_rows * N;
    const float *const d = work.x_2 + rows, *const attended = saved.attended + attention_rows;
    float *const d_attended = work.d_attended + attention_rows, *const q = work.q + attention_rows;
    add_rows(d, s.embed_rows, g.out_bias);
    add_outer_product(d, s.embed_rows, attended, s.attention_rows, g.out);
    multiply(
        w.out, s.attention_rows, s.embed_rows, d, [](int) IGPT_LAMBDA { return zero(); },
        [&](int row, V y) IGPT_LAMBDA { store(y, d_attended + row * N); });
    for (int head = 0; head < s.heads; ++head) {
      V delta = zero();
      IGPT_UNROLL(16)
      for (int i = head * s.head_rows; i < (head + 1) * s.head_rows; ++i)
        delta = hn::MulAdd(load(d_attended + i * N), load(attended + i * N), delta);
      store(delta, work.delta + (int64_t{tile} * s.heads + head) * N);
    }
    scale_rows(saved.normalised_1 + rows, w.ln_1_weight, w.ln_1_bias, s.embed_rows, work.normed);
    project_in(s, w, work.normed, tile, work);
    IGPT_UNROLL(16)
    for (int i = 0; i < s.heads * s.head_rows; ++i) {
      store(load(q + i * N), work.pairs + pairs_row(s, is_interleaved(s), 0, i) * N);
      store(load(d_attended + i * N), work.pairs + pairs_row(s, is_interleaved(s), 1, i) * N);
    }
    pairs_to_tokens(s, work.pairs, tile, tokens, work.q_do);
  }
}

/// From the gradients of q, k and v back to that of the block's input (work.x).
template <class Sizes>
HWY_NOINLINE void layer_norm_qkv_backward(const Sizes& s, const BlockWeights& w, const BlockActivations& saved,
                                          Workspace& work, BlockGradients& g) {
  const int64_t tokens = work.layout.padded_tokens();
  const V natural = all(0.693147181f);  // logits are of base 2
  const V query_scale = all(static_cast<float>(1 / std::sqrt(static_cast<double>(work.layout.shape.head_dim()))));
  for (int tile = 0; tile < work.layout.tiles; ++tile) {
    const int64_t rows = int64_t{tile} * s.embed_rows * N, attention_rows = int64_t{tile} * s.attention_rows * N;
    const float* const normalised = saved.normalised_1 + rows;
    float *const d_q = work.d_in, *const d_k = d_q + s.attention_rows * N, *const d_v = d_k + s.attention_rows * N;
    tokens_to_pairs(s, work.dkv, tile, tokens, work.pairs);
    IGPT_UNROLL(16)
    for (int i = 0; i < s.heads * s.head_rows; ++i) {
      store(hn::Mul(load(work.dq + attention_rows + i * N), query_scale), d_q + i * N);
      store(hn::Mul(load(work.pairs + pairs_row(s, is_interleaved(s), 0, i) * N), natural), d_k + i * N);
      store(load(work.pairs + pairs_row(s, is_interleaved(s), 1, i) * N), d_v + i * N);
    }
    add_rows(work.d_in, 3 * s.attention_rows, g.in_bias);
    scale_rows(normalised, w.ln_1_weight, w.ln_1_bias, s.embed_rows, work.normed);
    add_outer_product(work.d_in, 3 * s.attention_rows, work.normed, s.embed_rows, g.in);
    float *const d_out = work.x + rows, *const d_residual = work.x_2 + rows;
    multiply(
        w.in, s.embed_rows, 3 * s.attention_rows, work.d_in,
        [&](int row) IGPT_LAMBDA { return s.pre_norm ? zero() : load(d_residual + row * N); },
        [&](int row, V y) IGPT_LAMBDA { store(y, d_out + row * N); });
    normalise_backward(normalised, load(saved.inverse_sigma_1 + tile * N), w.ln_1_weight, s.embed, s.rms_norm, d_out,
                       g.ln_1_weight, g.ln_1_bias);
    if (s.pre_norm) add_rows(d_residual, s.embed_rows, d_out);
  }
}

/// Calls attend(std::integral_constant<int, head_rows>).
template <class Attend>
HWY_INLINE void for_head_dim(int head_rows, Attend attend) {
  switch (head_rows) {
    case 4:
      return attend(std::integral_constant<int, 4>());
    case 8:
      return attend(std::integral_constant<int, 8>());
    case 16:
      return attend(std::integral_constant<int, 16>());
    default:
      return attend(std::integral_constant<int, 32>());
  }
}

template <class Sizes>
HWY_INLINE void attention_of_heads(const Sizes& s, const BlockActivations& saved, Workspace& work) {
  for_head_dim(s.head_rows, [&](auto head_dim) {
    constexpr int kHeadDim = decltype(head_dim)::value;
    for (int head = 0; head < s.heads; ++head) {
      const int row = head * s.head_rows * N;
      attention_forward<kHeadDim>(work.q + row, s.attention_rows * N,
                                  work.kv + head * work.layout.padded_tokens() * s.pair_stride, work.layout.tiles,
                                  saved.attended + row, saved.log_sum_exp + head * N, s.heads * N);
    }
  });
}

template <class Sizes>
HWY_INLINE void attention_of_heads_backward(const Sizes& s, const BlockActivations& saved, Workspace& work) {
  const int64_t head_stride = work.layout.padded_tokens() * s.pair_stride;
  std::memset(work.dkv, 0, static_cast<size_t>(s.heads * head_stride) * sizeof(float));
  for_head_dim(s.head_rows, [&](auto head_dim) {
    constexpr int kHeadDim = decltype(head_dim)::value;
    for (int head = 0; head < s.heads; ++head) {
      const int row = head * s.head_rows * N;
      attention_backward<kHeadDim>(work.q + row, work.d_attended + row, s.attention_rows * N,
                                   work.kv + head * head_stride, work.q_do + head * head_stride, work.layout.tiles,
                                   saved.log_sum_exp + head * N, work.delta + head * N, s.heads * N, work.dq + row,
                                   work.dkv + head * head_stride);
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#endif
