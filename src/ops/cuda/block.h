#pragma once

#include "igpt/ops/model_shape.h"
#include "src/ops/cuda/kernel_sizes.h"
#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// A block's parameters, or their gradients, in device memory.
template <class T>
using BlockArrays = BlockParameters<simt::Global<T>>;

/// Those that lie one after the other from `first` on; null where the block lacks one.
template <class T>
BlockArrays<T> block_arrays(T* first, const ModelShape& shape) {
  return block_parameters<T, simt::Global<T>>(first, shape);
}

struct BlockSizes {
  int64_t tokens = 0;                         ///< T: of all images together
  int embed = 0;                              ///< D: a multiple of 4, up to 64
  bool pre_norm = false;                      ///< the residual branch continues from ln_1's input, not from its output
  bool rms_norm = false, quick_gelu = false;  ///< as ModelShape has them
  int tiles_of_part = 0;                      ///< in backward passes
  int64_t parameters = 0;                     ///< floats of a block's parameters

  BlockSizes() = default;
  BlockSizes(const ModelShape& shape, int64_t tokens);
};

/// What surrounds attention in a block, each a launch. All arrays are fp32 in device memory, at multiples of 16 bytes.
/// `sums` is the first of parts_of(T, D) parts: each backward kernel writes the gradients of its own parameters in
/// all of them, and the sum of the parts is the gradient.
struct QkvForward {
  BlockSizes sizes;
  BlockArrays<const float> weights;
  simt::Global<const float> x;  ///< (T, D): the block's input
  simt::Global<float> qkv;      ///< (T, 3D) = in_proj(ln_1(x))
};
/// What follows attention is one launch or, with a convolution, whose launches come between, two.
enum class AfterAttention { all, up_to_norm, mlp };
struct OutProjMlpForward {
  BlockSizes sizes;
  BlockArrays<const float> weights;
  simt::Global<const float> x, attended;  ///< (T, D)
  simt::Global<float> mid, out;           ///< (T, D): mid = residual + out_proj(attended), out = mid + mlp(ln_2(mid))
  AfterAttention part = AfterAttention::all;
  simt::Global<float> normed;           ///< (T, D): ln_2(mid), which up_to_norm writes
  simt::Global<const float> convolved;  ///< (T, D): which mlp reads in the place of ln_2(mid)
};
struct OutProjMlpBackward {
  BlockSizes sizes;
  BlockArrays<const float> weights;
  BlockArrays<float> sums;
  simt::Global<const float> mid, attended, d_out;
  simt::Global<float> d_mid, d_attended;  ///< d_mid may be d_out
  AfterAttention part = AfterAttention::all;
  simt::Global<const float> convolved;  ///< (T, D): which mlp reads
  simt::Global<float> d_convolved;      ///< (T, D): which mlp writes, and nothing else but the weights' gradients
  simt::Global<const float> d_normed;   ///< (T, D): which up_to_norm reads
};
struct QkvBackward {
  BlockSizes sizes;
  BlockArrays<const float> weights;
  BlockArrays<float> sums;
  simt::Global<const float> x, d_qkv, d_mid;
  simt::Global<float> dx;  ///< may be d_mid
};

int block_shared_bytes(int embed);  ///< of the kernel that needs most of a block's shared memory

/// They launch on `stream` (cudaStream_t) of the current device and return at once: null, or one line with the cause of
/// a failure. Results are the same bits in every run and on every device.
const char* qkv_forward(const QkvForward& arguments, void* stream = nullptr);
const char* out_proj_mlp_forward(const OutProjMlpForward& arguments, void* stream = nullptr);
const char* out_proj_mlp_backward(const OutProjMlpBackward& arguments, void* stream = nullptr);
const char* qkv_backward(const QkvBackward& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
