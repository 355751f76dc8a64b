#include "src/ops/cpu/muon.h"

#include <algorithm>
#include <cmath>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/ops/cpu/muon.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "igpt/ops/muon.h"
#include "src/ops/cpu/dense-inl.h"
#include "src/ops/cpu/vectors.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {
namespace {

constexpr int kLanes = 16;  // of sums over a matrix, whatever the vectors' width
constexpr auto kA = static_cast<float>(muon::kA), kB = static_cast<float>(muon::kB), kC = static_cast<float>(muon::kC);

int64_t padded(int64_t size, int64_t unit) {
  return (size + unit - 1) / unit * unit;
}

/// A vector from any place, zeros behind its first `count` entries.
HWY_INLINE V load_some(const float* p, int64_t count) {
  if (HWY_LIKELY(count >= N)) return hn::LoadU(kFloats, p);
  HWY_ALIGN float lanes[N] = {};
  std::copy_n(p, count, lanes);
  return load(lanes);
}
HWY_INLINE void store_some(V x, float* p, int64_t count) {
  if (HWY_LIKELY(count >= N)) return hn::StoreU(x, kFloats, p);
  HWY_ALIGN float lanes[N];
  store(x, lanes);
  std::copy_n(lanes, count, p);
}

/// The new momentum, and the update that it and the gradient give; returns the update's Frobenius norm. Lane i of 16
/// sums the squares of entries i, i + 16, ...
float nesterov(const float* gradient, int64_t count, float rest_of_momentum, float* momentum, float* update) {
  constexpr int kVectors = kLanes / N;
  const V rest = all(rest_of_momentum);
  V squares[kVectors];
  for (V& sum : squares) sum = zero();
  for (int64_t first = 0; first < count; first += kLanes) {
    for (int v = 0; v < kVectors && first + v * N < count; ++v) {
      const int64_t i = first + v * N;
      const V g = load_some(gradient + i, count - i), m_old = load_some(momentum + i, count - i);
      const V m = hn::MulAdd(rest, hn::Sub(g, m_old), m_old);
      const V u = hn::MulAdd(rest, hn::Sub(g, m), m);
      store_some(m, momentum + i, count - i);
      store(u, update + i);
      squares[v] = hn::MulAdd(u, u, squares[v]);
    }
  }
  HWY_ALIGN float lanes[kLanes];
  for (int v = 0; v < kVectors; ++v) store(squares[v], lanes + v * N);
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return std::sqrt(sum);
}

template <int kRows, class Put>
HWY_INLINE void multiply_block(const float* left, int64_t stride, const float* right, int64_t columns, int64_t inner,
                               int64_t row, int64_t column, Put put) {
  V sums[kRows];
  IGPT_UNROLL(16)
  for (int m = 0; m < kRows; ++m) sums[m] = zero();
  for (int64_t k = 0; k < inner; ++k) {
    const V right_k = load(right + k * columns + column);
    IGPT_UNROLL(16)
    for (int m = 0; m < kRows; ++m) sums[m] = hn::MulAdd(all(left[k * stride + row + m]), right_k, sums[m]);
  }
  IGPT_UNROLL(16)
  for (int m = 0; m < kRows; ++m) put((row + m) * columns + column, sums[m]);
}

/// put(row * columns + column, sum over k < inner of left[k][row] right[k][column...]) for `rows` rows, a multiple of
/// 8, and `columns` columns, a multiple of N. A lane holds a column; each entry on the left is broadcast into one
/// multiply-add.
template <class Put>
HWY_INLINE void multiply_transposed(const float* left, int64_t rows, const float* right, int64_t columns, int64_t inner,
                                    Put put) {
  for (int64_t column = 0; column < columns; column += N) {
    int64_t row = 0;
    for (; row + kBlock <= rows; row += kBlock)
      multiply_block<kBlock>(left, rows, right, columns, inner, row, column, put);
    for (; row < rows; row += 8) multiply_block<8>(left, rows, right, columns, inner, row, column, put);
  }
}

/// to (columns, rows) = from (rows, columns), both sides multiples of N.
HWY_INLINE void transpose_matrix(const float* from, int64_t rows, int64_t columns, float* to) {
  for (int64_t row = 0; row < rows; row += N)
    for (int64_t column = 0; column < columns; column += N) {
      V block[N];
      IGPT_UNROLL(16)
      for (int i = 0; i < N; ++i) block[i] = load(from + (row + i) * columns + column);
      transpose(block);
      IGPT_UNROLL(16)
      for (int i = 0; i < N; ++i) store(block[i], to + (column + i) * rows + row);
    }
}

/// Five iterations X <- a X + (b A + c A A) X with A = X X^T, s^2 (2 l + s) multiply-adds each. X has the shorter side
/// s as its rows, and X^T lies beside it. A and its square are symmetric to the last bit, so that no other matrix is
/// transposed.
void update(int64_t rows, int64_t columns, const MuonRates& rates, const float* gradient, float* momentum,
            float* weights, float* scratch) {
  const bool is_wide = rows <= columns;
  const int64_t s = std::min(rows, columns), l = std::max(rows, columns);
  constexpr int64_t kUnit = std::max(N, 8);  // of padded sides: whole blocks of rows and whole vectors
  const int64_t s_padded = padded(s, kUnit), l_padded = padded(l, kUnit), size = s_padded * l_padded;
  float *x = scratch, *x_next = x + size, *x_transposed = x_next + size;
  float *a = x_transposed + size, *b = a + s_padded * s_padded, *flat = b + s_padded * s_padded;

  const float norm = nesterov(gradient, rows * columns, static_cast<float>(1 - rates.momentum), momentum, flat);
  float* as_given = is_wide ? x : x_transposed;
  const int64_t stride = is_wide ? l_padded : s_padded;
  std::fill_n(as_given, size, 0.0f);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < columns; i += N) {
      const V entries = load_some(flat + row * columns + i, columns - i);
      store(hn::Div(entries, all(norm + static_cast<float>(muon::kEpsilon))), as_given + row * stride + i);
    }
  if (is_wide)
    transpose_matrix(x, s_padded, l_padded, x_transposed);
  else
    transpose_matrix(x_transposed, l_padded, s_padded, x);

  for (int i = 0; i < muon::kIterations; ++i) {
    multiply_transposed(x_transposed, s_padded, x_transposed, s_padded, l,
                        [&](int64_t place, V sum) IGPT_LAMBDA { store(sum, a + place); });
    multiply_transposed(a, s_padded, a, s_padded, s, [&](int64_t place, V sum) IGPT_LAMBDA {
      store(hn::MulAdd(all(kC), sum, hn::Mul(all(kB), load(a + place))), b + place);
    });
    multiply_transposed(b, s_padded, x, l_padded, s, [&](int64_t place, V sum) IGPT_LAMBDA {
      store(hn::MulAdd(all(kA), load(x + place), sum), x_next + place);
    });
    std::swap(x, x_next);
    transpose_matrix(x, s_padded, l_padded, x_transposed);
  }

  const auto scale = static_cast<float>(rates.learning_rate * muon::kScale * std::sqrt(static_cast<double>(l)));
  const auto kept = static_cast<float>(1 - rates.learning_rate * rates.weight_decay);
  const float* result = is_wide ? x : x_transposed;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < columns; i += N) {
      float* place = weights + row * columns + i;
      const V u = load(result + row * stride + i), w = load_some(place, columns - i);
      const V decayed = hn::IfThenElse(hn::Gt(hn::Mul(u, w), zero()), hn::Mul(all(kept), w), w);
      store_some(hn::NegMulAdd(all(scale), u, decayed), place, columns - i);
    }
}

}  // namespace

MuonKernel muon_of_target() {
  return &update;
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace igpt::ops::cpu {

HWY_EXPORT(muon_of_target);

MuonKernel muon_kernel() {
  choose_vectors();
  return HWY_DYNAMIC_DISPATCH(muon_of_target)();
}

size_t muon_scratch(int64_t rows, int64_t columns) {
  const auto with_padding = [](int64_t size) { return static_cast<size_t>(size + 15) / 16 * 16; };
  const size_t r = with_padding(rows), c = with_padding(columns), s = std::min(r, c);
  return 4 * r * c + 2 * s * s;
}

int64_t muon_multiply_adds(int64_t rows, int64_t columns) {
  const int64_t s = std::min(rows, columns), l = std::max(rows, columns);
  return 5 * s * s * (2 * l + s);
}

}  // namespace igpt::ops::cpu
#endif
