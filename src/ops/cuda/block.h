#pragma once

#include <cstdint>

#include "igpt/ops/model_shape.h"

namespace igpt::ops::cuda {

struct BlockSizes {
  int64_t tokens = 0;     ///< T: of all images together
  int embed = 0;          ///< D: a multiple of 4, up to 64
  bool pre_norm = false;  ///< the residual branch continues from ln_1's input, not from its output
};

/// What surrounds attention in a block, each a launch. All arrays are fp32 in device memory, at multiples of 16 bytes;
/// `weights` and `sums` point to ln_1.weight. `sums` is (block_parts(sizes), block_floats(D)): each backward
/// kernel writes its own columns of all rows, and the sum of the rows is the gradient.
struct QkvForward {
  BlockSizes sizes;
  const float *weights, *x;  // x (T, D): the block's input
  float* qkv;                // (T, 3D) = in_proj(ln_1(x))
};
struct MlpForward {
  BlockSizes sizes;
  const float *weights, *x, *attended;  // attended (T, D)
  float *mid, *out;                     // (T, D): mid = residual + out_proj(attended), out = mid + mlp(ln_2(mid))
};
struct MlpBackward {
  BlockSizes sizes;
  const float *weights, *mid, *attended, *d_out;
  float *d_mid, *d_attended, *sums;  // d_mid may be d_out
};
struct QkvBackward {
  BlockSizes sizes;
  const float *weights, *x, *d_qkv, *d_mid;
  float *dx, *sums;  // dx may be d_mid
};

constexpr bool block_supports(const BlockSizes& sizes) {
  return sizes.embed >= 4 && sizes.embed <= 64 && sizes.embed % 4 == 0 && sizes.tokens > 0 &&
         sizes.tokens <= (int64_t{1} << 31);
}
/// Floats of a block's parameters.
int64_t block_floats(int64_t embed);
int64_t block_parts(const BlockSizes& sizes);
int block_shared_bytes(const BlockSizes& sizes);  ///< of the kernel that needs most of a block's shared memory

/// They launch on `stream` (cudaStream_t) of the current device and return at once: null, or one line with the cause
/// why not. Results are the same bits in every run and on every device.
const char* qkv_forward(const QkvForward& arguments, void* stream = nullptr);
const char* mlp_forward(const MlpForward& arguments, void* stream = nullptr);
const char* mlp_backward(const MlpBackward& arguments, void* stream = nullptr);
const char* qkv_backward(const QkvBackward& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
