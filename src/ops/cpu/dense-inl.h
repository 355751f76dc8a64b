// Linear layers and layer norms of one tile: rows of N tokens, [row][N].

#if defined(IGPT_OPS_CPU_DENSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef IGPT_OPS_CPU_DENSE_INL_H_
#undef IGPT_OPS_CPU_DENSE_INL_H_
#else
#define IGPT_OPS_CPU_DENSE_INL_H_
#endif

#include "src/ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

constexpr int kBlock = kManyRegisters ? 16 : 8;  // rows of a product in registers

template <int kRows, class Init, class Put>
HWY_INLINE void multiply_rows(const float* weights, int stride, int inputs, const float* x, int row, Init init,
                              Put put) {
  V sums[kRows];
  IGPT_UNROLL(16)
  for (int m = 0; m < kRows; ++m) sums[m] = init(row + m);
  IGPT_UNROLL(2)
  for (int k = 0; k < inputs; ++k) {
    const V x_k = load(x + k * N);
    IGPT_UNROLL(16)
    for (int m = 0; m < kRows; ++m) sums[m] = hn::MulAdd(all(weights[k * stride + row + m]), x_k, sums[m]);
  }
  IGPT_UNROLL(16)
  for (int m = 0; m < kRows; ++m) put(row + m, sums[m]);
}

/// put(row, init(row) + sum over k of weights[k][row] x[k]) for `rows` rows, a multiple of 8. A lane holds a token, a
/// register an output; each weight is broadcast into one multiply-add: rows * inputs of them, at two a cycle.
template <class Init, class Put>
HWY_INLINE void multiply(const float* weights, int rows, int inputs, const float* x, Init init, Put put) {
  int row = 0;
  IGPT_UNROLL(1)
  for (; row + kBlock <= rows; row += kBlock) multiply_rows<kBlock>(weights, rows, inputs, x, row, init, put);
  if constexpr (kBlock > 8) {
    if (row < rows) multiply_rows<8>(weights, rows, inputs, x, row, init, put);
  }
}

/// gradient[chunk][row][lane] += sum over the tokens of d_out[row][token] in[chunk * N + lane][token]: the gradient of
/// a weight matrix. A lane holds an input; the tile of inputs is transposed once for all rows (a multiple of 8).
HWY_INLINE void add_outer_product(const float* d_out, int rows, const float* in, int inputs, float* gradient) {
  IGPT_UNROLL(1)
  for (int first = 0; first < inputs; first += N, gradient += rows * N) {
    V in_of_token[N];
    load_transposed(in + first * N, inputs - first, in_of_token);
    IGPT_UNROLL(1)
    for (int row = 0; row < rows; row += 8) {
      V sums[8];
      IGPT_UNROLL(8)
      for (int m = 0; m < 8; ++m) sums[m] = load(gradient + (row + m) * N);
      IGPT_UNROLL(16)
      for (int t = 0; t < N; ++t) {
        IGPT_UNROLL(8)
        for (int m = 0; m < 8; ++m) sums[m] = hn::MulAdd(all(d_out[(row + m) * N + t]), in_of_token[t], sums[m]);
      }
      IGPT_UNROLL(8)
      for (int m = 0; m < 8; ++m) store(sums[m], gradient + (row + m) * N);
    }
  }
}

HWY_INLINE void add_rows(const float* rows, int count, float* sums) {
  IGPT_UNROLL(16)
  for (int i = 0; i < count; ++i) add_to(sums + i * N, load(rows + i * N));
}

/// The first `embed` rows of x to mean 0 and variance 1 over the rows; returns 1 / sigma. With `rms_norm` to a mean
/// square of 1, whatever their mean.
HWY_INLINE V normalise(const float* x, int embed, bool rms_norm, float* normalised) {
  const V each = all(1.0f / static_cast<float>(embed));
  V sum_even = zero(), sum_odd = zero();
  IGPT_UNROLL(16)
  for (int i = 0; i + 1 < embed; i += 2) {
    sum_even = hn::Add(sum_even, load(x + i * N));
    sum_odd = hn::Add(sum_odd, load(x + (i + 1) * N));
  }
  if (embed % 2) sum_even = hn::Add(sum_even, load(x + (embed - 1) * N));
  const V mean = rms_norm ? zero() : hn::Mul(hn::Add(sum_even, sum_odd), each);
  V square = zero();
  IGPT_UNROLL(16)
  for (int i = 0; i < embed; ++i) {
    const V centred = hn::Sub(load(x + i * N), mean);
    square = hn::MulAdd(centred, centred, square);
  }
  const V inverse_sigma = hn::Div(all(1.0f), hn::Sqrt(hn::MulAdd(square, each, all(1e-5f))));
  IGPT_UNROLL(16)
  for (int i = 0; i < embed; ++i) store(hn::Mul(hn::Sub(load(x + i * N), mean), inverse_sigma), normalised + i * N);
  return inverse_sigma;
}

/// Layer norm's output from the normalised rows.
HWY_INLINE V scaled(const float* normalised, const float* weight, const float* bias, int row) {
  return hn::MulAdd(load(normalised + row * N), all(weight[row]), all(bias[row]));
}
HWY_INLINE void scale_rows(const float* normalised, const float* weight, const float* bias, int rows, float* out) {
  IGPT_UNROLL(16)
  for (int i = 0; i < rows; ++i) store(scaled(normalised, weight, bias, i), out + i * N);
}

/// Layer norm backward: `d` (rows of the output's gradient) becomes the input's; adds to the gradients of gain and
/// bias.
HWY_INLINE void normalise_backward(const float* normalised, V inverse_sigma, const float* weight, int embed,
                                   bool rms_norm, float* d, float* d_weight, float* d_bias) {
  V sum = zero(), dot = zero();
  IGPT_UNROLL(16)
  for (int i = 0; i < embed; ++i) {
    const V h = load(normalised + i * N), d_i = load(d + i * N), d_h = hn::Mul(d_i, all(weight[i]));
    add_to(d_weight + i * N, hn::Mul(d_i, h));
    add_to(d_bias + i * N, d_i);
    store(d_h, d + i * N);
    sum = hn::Add(sum, d_h);
    dot = hn::MulAdd(d_h, h, dot);
  }
  const V each = all(1.0f / static_cast<float>(embed));
  const V mean = rms_norm ? zero() : hn::Mul(sum, each), along = hn::Mul(dot, each);
  IGPT_UNROLL(16)
  for (int i = 0; i < embed; ++i) {
    const V centred = hn::Sub(hn::NegMulAdd(load(normalised + i * N), along, load(d + i * N)), mean);
    store(hn::Mul(inverse_sigma, centred), d + i * N);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#endif
