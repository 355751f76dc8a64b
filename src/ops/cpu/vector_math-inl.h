// Elementary functions of vectors of floats, for every target of Highway.

#if defined(IGPT_OPS_CPU_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef IGPT_OPS_CPU_VECTOR_MATH_INL_H_
#undef IGPT_OPS_CPU_VECTOR_MATH_INL_H_
#else
#define IGPT_OPS_CPU_VECTOR_MATH_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr float kLog2e = 1.4426950408889634f;

/// 2^x for x <= 0, relative error below 2e-7; exactly 0 from -126.5 down.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp2_of_negative(D f, V x) {
  const hn::RebindToSigned<D> i;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits, here with the exponent's bias.
  const V shift = hn::Set(f, 12582912.0f + 127.0f);
  x = hn::Max(x, hn::Set(f, -127.0f));
  const V shifted = hn::Add(x, shift);
  const V part = hn::Sub(x, hn::Sub(shifted, shift));  // in [-1/2, 1/2]
  const V power = hn::BitCast(f, hn::ShiftLeft<23>(hn::BitCast(i, shifted)));
  V p = hn::MulAdd(part, hn::Set(f, 0x1.ec3222p-10f), hn::Set(f, 0x1.269012p-7f));
  p = hn::MulAdd(part, p, hn::Set(f, 0x1.c95442p-5f));
  p = hn::MulAdd(part, p, hn::Set(f, 0x1.ebd5aap-3f));
  p = hn::MulAdd(part, p, hn::Set(f, 0x1.62e4f6p-1f));
  p = hn::MulAdd(part, p, hn::Set(f, 1.0f));
  return hn::Mul(p, power);
}

/// x Phi(x), Phi the normal distribution function by Abramowitz and Stegun 7.1.26 (|error| < 1.5e-7).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V gelu(D f, V x) {
  const V one = hn::Set(f, 1.0f);
  const V t = hn::Div(one, hn::MulAdd(hn::Abs(x), hn::Set(f, 0.3275911f * 0.70710678f), one));
  const V e = exp2_of_negative(f, hn::Mul(hn::Mul(x, x), hn::Set(f, -0.5f * kLog2e)));
  V p = hn::MulAdd(t, hn::Set(f, 0.5f * 1.061405429f), hn::Set(f, 0.5f * -1.453152027f));
  p = hn::MulAdd(t, p, hn::Set(f, 0.5f * 1.421413741f));
  p = hn::MulAdd(t, p, hn::Set(f, 0.5f * -0.284496736f));
  p = hn::MulAdd(t, p, hn::Set(f, 0.5f * 0.254829592f));
  const V tail = hn::Mul(hn::Mul(p, t), e);  // Phi(-|x|)
  return hn::Mul(x, hn::IfThenElse(hn::Ge(x, hn::Zero(f)), hn::Sub(one, tail), tail));
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#endif
