// The causal depth-wise convolution before an MLP (ModelShape::conv_taps). What it reads lies in planes, a row of all
// tokens for each feature, so that the neighbours of N tokens are N floats one after the other; zeros are on both
// sides.

#if defined(IGPT_OPS_CPU_CONVOLUTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef IGPT_OPS_CPU_CONVOLUTION_INL_H_
#undef IGPT_OPS_CPU_CONVOLUTION_INL_H_
#else
#define IGPT_OPS_CPU_CONVOLUTION_INL_H_
#endif

#include "src/ops/cpu/layout.h"
#include "src/ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

/// The rows of a tile, [row][N], into a plane.
HWY_INLINE void store_to_plane(const Layout& layout, const float* rows, int tile, float* plane) {
  const int64_t at = layout.reach + int64_t{tile} * N;
  for (int i = 0; i < layout.embed_rows; ++i) store(load(rows + i * N), plane + i * layout.plane_stride() + at);
}

/// The convolution's output of a tile, [row][N], from the plane, which has this tile and those before it.
HWY_INLINE void convolve(const Layout& layout, const float* gains, const float* plane, int tile, float* rows) {
  const int64_t at = layout.reach + int64_t{tile} * N, stride = layout.plane_stride();
  const int taps = static_cast<int>(layout.conv_taps.size());
  for (int i = 0; i < layout.embed_rows; ++i) {
    const float* const row = plane + i * stride + at;
    V sum = load(row);
    for (int k = 0; k < taps; ++k) {
      const V inside = hn::LoadU(kFloats, layout.inside.data() + k * stride + at);
      const V seen = hn::LoadU(kFloats, row - layout.conv_taps[static_cast<size_t>(k)]);
      sum = hn::MulAdd(hn::Mul(all(gains[k * layout.embed_rows + i]), inside), seen, sum);
    }
    store(sum, rows + i * N);
  }
}

/// The gradient of what a tile put into the plane, from that of the output in d_plane, which has this tile and those
/// behind it; adds the gradients of the gains.
HWY_INLINE void convolve_backward(const Layout& layout, const float* gains, const float* plane, const float* d_plane,
                                  int tile, float* d_rows, float* d_gains) {
  const int64_t at = layout.reach + int64_t{tile} * N, stride = layout.plane_stride();
  const int taps = static_cast<int>(layout.conv_taps.size());
  for (int i = 0; i < layout.embed_rows; ++i) {
    const float *const row = plane + i * stride + at, *const d_row = d_plane + i * stride + at;
    const V d = load(d_row);
    V sum = d;
    for (int k = 0; k < taps; ++k) {
      const float* const inside = layout.inside.data() + k * stride + at;
      const int64_t before = layout.conv_taps[static_cast<size_t>(k)], gain = k * layout.embed_rows + i;
      const V d_of_reader = hn::Mul(hn::LoadU(kFloats, inside + before), hn::LoadU(kFloats, d_row + before));
      sum = hn::MulAdd(all(gains[gain]), d_of_reader, sum);
      add_to(d_gains + gain * N, hn::Mul(hn::Mul(hn::LoadU(kFloats, inside), d), hn::LoadU(kFloats, row - before)));
    }
    store(sum, d_rows + i * N);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#endif
