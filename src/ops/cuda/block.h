#pragma once

#include <cstdint>

namespace igpt::ops::cuda {

/// Where a transformer block's parameters, or their gradients, lie one after the other, in the order of
/// igpt::parameter_shapes.
template <class T>
struct BlockParameters {
  T *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias;  // (D)
  T *in, *in_bias;                                       // (3D, D): q, k, v
  T *out, *out_bias;                                     // (D, D)
  T *up, *up_bias;                                       // mlp.0 (4D, D)
  T *down, *down_bias;                                   // mlp.2 (D, 4D)

  BlockParameters(T* first, int64_t d)
      : ln_1_weight(first),
        ln_1_bias(ln_1_weight + d),
        ln_2_weight(ln_1_bias + d),
        ln_2_bias(ln_2_weight + d),
        in(ln_2_bias + d),
        in_bias(in + 3 * d * d),
        out(in_bias + 3 * d),
        out_bias(out + d * d),
        up(out_bias + d),
        up_bias(up + 4 * d * d),
        down(up_bias + 4 * d),
        down_bias(down + 4 * d * d) {}
};
constexpr int64_t block_parameter_count(int64_t d) {
  return 12 * d * d + 13 * d;
}

struct BlockSizes {
  int64_t tokens = 0;                    ///< T: of all images together
  int64_t embed = 0;                     ///< D: a multiple of 4, up to 64
  bool residual_from_normalised = true;  ///< attention is added to ln_1's output (the original), or to its input
};

/// What surrounds attention in a block, each a launch. All arrays are fp32 in device memory, at multiples of 16 bytes;
/// `weights` and `sums` point to ln_1.weight. `sums` is (block_parts(sizes), block_parameter_count(D)): each backward
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
int64_t block_parts(const BlockSizes& sizes);
int block_shared_bytes(const BlockSizes& sizes);  ///< of the kernel that needs most of a block's shared memory

/// They launch on `stream` (cudaStream_t) of the current device and return at once: null, or one line with the cause
/// why not. Results are the same bits in every run and on every device.
const char* qkv_forward(const QkvForward& arguments, void* stream = nullptr);
const char* mlp_forward(const MlpForward& arguments, void* stream = nullptr);
const char* mlp_backward(const MlpBackward& arguments, void* stream = nullptr);
const char* qkv_backward(const QkvBackward& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
