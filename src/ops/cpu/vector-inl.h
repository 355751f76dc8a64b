// What the kernels know of vectors: a tag, the functions of mathematics, and transposing. Included once for each
// target.

#if defined(IGPT_OPS_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef IGPT_OPS_CPU_VECTOR_INL_H_
#undef IGPT_OPS_CPU_VECTOR_INL_H_
#else
#define IGPT_OPS_CPU_VECTOR_INL_H_
#endif

#include <hwy/highway.h>

#ifndef IGPT_UNROLL
#if defined(__clang__)
#define IGPT_UNROLL(count) HWY_PRAGMA(unroll)
#elif defined(__GNUC__)
#define IGPT_UNROLL(count) _Pragma(HWY_STR(GCC unroll count))
#else
#define IGPT_UNROLL(count)
#endif
#define IGPT_LAMBDA __attribute__((always_inline))
#endif

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::RebindToSigned<Floats>;
using V = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr int N = static_cast<int>(hn::MaxLanes(kFloats));
constexpr bool kManyRegisters = HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64;  // 32, else 16

HWY_INLINE V load(const float* p) {
  return hn::Load(kFloats, p);
}
HWY_INLINE void store(V x, float* p) {
  hn::Store(x, kFloats, p);
}
HWY_INLINE V all(float x) {
  return hn::Set(kFloats, x);
}
HWY_INLINE V zero() {
  return hn::Zero(kFloats);
}
HWY_INLINE void add_to(float* p, V x) {
  store(hn::Add(load(p), x), p);
}

/// 2^x for x up to 127, with a relative error of 1.2e-7: a power of two times a minimax polynomial on [-1/2, 1/2].
/// Below 2^-80 the result stays 2^-80, which no sum here can tell from 0 and which keeps products normal. NaN stays
/// NaN.
HWY_INLINE V exp2(V x) {
  const Ints ints;
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  x = hn::Max(all(-80.0f), x);  // NaN when its second operand is; other machines' Max loses it
#else
  x = hn::IfThenElse(hn::Lt(x, all(-80.0f)), all(-80.0f), x);
#endif
  const V shifted = hn::Add(x, all(0x1.8p23f));  // its lowest bits are x, rounded
  const V f = hn::Sub(x, hn::Sub(shifted, all(0x1.8p23f)));
  V p = hn::MulAdd(f, all(0x1.5bba14p-10f), all(0x1.3cea88p-7f));
  p = hn::MulAdd(f, p, all(0x1.c6b752p-5f));
  p = hn::MulAdd(f, p, all(0x1.ebf9bcp-3f));
  p = hn::MulAdd(f, p, all(0x1.62e42ap-1f));
  p = hn::MulAdd(f, p, all(1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(ints, shifted));
  return hn::BitCast(kFloats, hn::Add(hn::BitCast(ints, p), exponent));
}

/// log2 of a positive normal number: the exponent plus 2 atanh((m - 1) / (m + 1)) log2(e), m in [sqrt(1/2), sqrt(2)).
HWY_INLINE V log2(V x) {
  const Ints ints;
  const auto bits = hn::BitCast(ints, x);
  const auto exponent = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(ints, 0x3f3504f3)));
  const V m = hn::BitCast(kFloats, hn::Sub(bits, hn::ShiftLeft<23>(exponent)));
  const V s = hn::Div(hn::Sub(m, all(1.0f)), hn::Add(m, all(1.0f))), z = hn::Mul(s, s);
  V p = hn::MulAdd(z, all(2.0f / 11), all(2.0f / 9));
  p = hn::MulAdd(z, p, all(2.0f / 7));
  p = hn::MulAdd(z, p, all(2.0f / 5));
  p = hn::MulAdd(z, p, all(2.0f / 3));
  p = hn::MulAdd(z, p, all(2.0f));
  return hn::MulAdd(hn::Mul(s, p), all(1.44269504f), hn::ConvertTo(kFloats, exponent));
}

HWY_INLINE V reciprocal(V x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  const V r = hn::ApproximateReciprocal(x);  // 12 to 14 bits, then one step of Newton's
  return hn::Mul(r, hn::NegMulAdd(x, r, all(2.0f)));
#else
  return hn::Div(all(1.0f), x);
#endif
}

/// The normal distribution function of x and `density` = exp(-x^2 / 2): Abramowitz and Stegun 7.1.26, error 1.5e-7.
HWY_INLINE V normal_cdf(V x, V& density) {
  const V t = reciprocal(hn::MulAdd(hn::Abs(x), all(0.3275911f * 0.70710678f), all(1.0f)));
  density = exp2(hn::Mul(hn::Mul(x, x), all(-0.5f * 1.44269504f)));
  V p = hn::MulAdd(t, all(0.5f * 1.061405429f), all(0.5f * -1.453152027f));
  p = hn::MulAdd(t, p, all(0.5f * 1.421413741f));
  p = hn::MulAdd(t, p, all(0.5f * -0.284496736f));
  p = hn::MulAdd(t, p, all(0.5f * 0.254829592f));
  const V tail = hn::Mul(hn::Mul(p, t), density);
  return hn::IfThenElse(hn::Ge(x, zero()), hn::Sub(all(1.0f), tail), tail);
}

/// GELU of x and its `slope`; `quick`: x sigmoid(1.702 x).
HWY_INLINE V gelu(V x, bool quick, V& slope) {
  if (quick) {
    // Where the exponential is as large as it can be, its reciprocal is 0 beside any x.
    const V power = exp2(hn::Min(hn::Mul(x, all(-1.702f * 1.44269504f)), all(100.0f)));
    const V sigmoid = hn::Div(all(1.0f), hn::Add(all(1.0f), power)), y = hn::Mul(x, sigmoid);
    slope = hn::MulAdd(hn::Mul(all(1.702f), y), hn::Sub(all(1.0f), sigmoid), sigmoid);
    return y;
  }
  V density;
  const V cdf = normal_cdf(x, density);
  slope = hn::MulAdd(hn::Mul(x, all(0.3989422804f)), density, cdf);
  return hn::Mul(x, cdf);
}

#if HWY_TARGET != HWY_SCALAR
/// Each 4 x 4 of 128-bit blocks.
HWY_INLINE void transpose_blocks(V* r) {
  const hn::RepartitionToWide<hn::RebindToUnsigned<Floats>> pairs;
  V t[N];
  IGPT_UNROLL(8)
  for (int i = 0; i < N; i += 2) {
    t[i] = hn::InterleaveLower(kFloats, r[i], r[i + 1]);
    t[i + 1] = hn::InterleaveUpper(kFloats, r[i], r[i + 1]);
  }
  IGPT_UNROLL(4)
  for (int i = 0; i < N; i += 4) {  // 4 x 4 within each 128-bit block
    const auto a = hn::BitCast(pairs, t[i]), b = hn::BitCast(pairs, t[i + 1]);
    const auto c = hn::BitCast(pairs, t[i + 2]), e = hn::BitCast(pairs, t[i + 3]);
    r[i] = hn::BitCast(kFloats, hn::InterleaveLower(pairs, a, c));
    r[i + 1] = hn::BitCast(kFloats, hn::InterleaveUpper(pairs, a, c));
    r[i + 2] = hn::BitCast(kFloats, hn::InterleaveLower(pairs, b, e));
    r[i + 3] = hn::BitCast(kFloats, hn::InterleaveUpper(pairs, b, e));
  }
}

/// Blocks a0 a1 of row i and b0 b1 of row i + 4 -> a0 b0, a1 b1; likewise four blocks of four rows.
HWY_INLINE void transpose_across_blocks(V* r) {
#if HWY_TARGET == HWY_AVX2
  IGPT_UNROLL(4)
  for (int i = 0; i < 4; ++i) {
    const V a = r[i], b = r[i + 4];
    r[i] = hn::ConcatLowerLower(kFloats, b, a);
    r[i + 4] = hn::ConcatUpperUpper(kFloats, b, a);
  }
#elif HWY_TARGET == HWY_AVX3
  IGPT_UNROLL(4)
  for (int i = 0; i < 4; ++i) {
    const V a = r[i], b = r[i + 4], c = r[i + 8], e = r[i + 12];
    const V ac_01 = hn::ConcatLowerLower(kFloats, c, a), ac_23 = hn::ConcatUpperUpper(kFloats, c, a);
    const V be_01 = hn::ConcatLowerLower(kFloats, e, b), be_23 = hn::ConcatUpperUpper(kFloats, e, b);
    r[i] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(be_01), ac_01);
    r[i + 4] = hn::OddEvenBlocks(be_01, hn::SwapAdjacentBlocks(ac_01));
    r[i + 8] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(be_23), ac_23);
    r[i + 12] = hn::OddEvenBlocks(be_23, hn::SwapAdjacentBlocks(ac_23));
  }
#else
  static_assert(N == 4);
  (void)r;
#endif
}
#endif

/// r[i] lane j <-> r[j] lane i, N x N.
HWY_INLINE void transpose(V* r) {
#if HWY_TARGET != HWY_SCALAR
  transpose_blocks(r);
  if constexpr (N > 4) transpose_across_blocks(r);
#else
  (void)r;  // a single lane
#endif
}

/// out[t] lane i = rows[i][t]: the tokens of a tile, `available` rows long (the rest zeros).
HWY_INLINE void load_transposed(const float* rows, int available, V* out) {
  if (HWY_LIKELY(available >= N)) {
    IGPT_UNROLL(16)
    for (int i = 0; i < N; ++i) out[i] = load(rows + i * N);
  } else {
    for (int i = 0; i < N; ++i) out[i] = i < available ? load(rows + i * N) : zero();
  }
  transpose(out);
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#endif
