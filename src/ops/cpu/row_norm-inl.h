// The norm of one token's features, vectors holding features. Included once for each target.

#if defined(IGPT_OPS_CPU_ROW_NORM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef IGPT_OPS_CPU_ROW_NORM_INL_H_
#undef IGPT_OPS_CPU_ROW_NORM_INL_H_
#else
#define IGPT_OPS_CPU_ROW_NORM_INL_H_
#endif

#include "src/ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

/// The first lanes of the vector at `index` that are below `count`.
HWY_INLINE V only_below(size_t count, size_t index, V x) {
  return index + N <= count ? x : hn::IfThenElseZero(hn::FirstN(kFloats, count - std::min(index, count)), x);
}

/// (x - mean) / sigma * weight + bias over D features (Ba et al. 2016), eps 1e-5; with `rms_norm` the mean is taken as
/// zero. `width`: D, padded to whole vectors. The padding of `weight` and `bias` is zero, and so is that of the result.
HWY_INLINE void layer_norm(const float* x, const float* weight, const float* bias, size_t embed_dim, size_t width,
                           bool rms_norm, float* normalised) {
  const auto features = static_cast<float>(embed_dim);
  V sum = zero(), squares = zero();
  if (!rms_norm)
    for (size_t i = 0; i < width; i += N) sum = hn::Add(sum, load(x + i));
  const V mean = hn::Mul(hn::SumOfLanes(kFloats, sum), all(1 / features));
  for (size_t i = 0; i < width; i += N) {
    const V deviation = only_below(embed_dim, i, hn::Sub(load(x + i), mean));
    squares = hn::MulAdd(deviation, deviation, squares);
  }
  const V variance = hn::Mul(hn::SumOfLanes(kFloats, squares), all(1 / features));
  const V scale = hn::Div(all(1.0f), hn::Sqrt(hn::Add(variance, all(1e-5f))));
  for (size_t i = 0; i < width; i += N) {
    const V x_hat = hn::Mul(hn::Sub(load(x + i), mean), scale);
    store(hn::MulAdd(x_hat, load(weight + i), load(bias + i)), normalised + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#endif
