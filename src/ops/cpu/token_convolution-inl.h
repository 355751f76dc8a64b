// The causal depth-wise convolution before an MLP (ModelShape::conv_taps) of one token, for both decoders.

#if defined(IGPT_OPS_CPU_TOKEN_CONVOLUTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef IGPT_OPS_CPU_TOKEN_CONVOLUTION_INL_H_
#undef IGPT_OPS_CPU_TOKEN_CONVOLUTION_INL_H_
#else
#define IGPT_OPS_CPU_TOKEN_CONVOLUTION_INL_H_
#endif

#include <vector>

#include "igpt/ops/neighbourhood.h"
#include "src/ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

/// x (width) becomes the output at `position` of a `side` x `side` image. `gains` (taps, width); `read` (position,
/// width) has what the convolution read at the positions before, and gets x. `width` is a multiple of N.
HWY_INLINE void convolve_token(const std::vector<Neighbour>& taps, int64_t side, const float* gains, size_t width,
                               size_t position, float* read, float* x) {
  std::copy_n(x, width, read + position * width);
  const auto s = static_cast<int64_t>(position);
  for (const Neighbour& tap : taps) {
    if (tap.is_inside(s / side, s % side, side)) {
      const float* const seen = read + (s + tap.down * side + tap.right) * static_cast<int64_t>(width);
      for (size_t i = 0; i < width; i += N) store(hn::MulAdd(load(gains + i), load(seen + i), load(x + i)), x + i);
    }
    gains += width;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#endif
