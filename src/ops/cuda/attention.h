#pragma once

#include <cstdint>

namespace igpt::ops::cuda {

/// What causal attention's products are computed in; sums, softmax and results are fp32 always.
enum class AttentionPrecision {
  fp32,        ///< on the ordinary units: every device
  split_bf16,  ///< on tensor cores (sm_80 and later), each fp32 as two or three bf16: within 1e-5 of exact
  bf16,        ///< on tensor cores: logits as from 16-bit mantissas, weights and gradients from 8-bit ones
};

/// A (B, H, S, d) tensor in device memory. The d features are adjacent, each row begins at a multiple of 16 bytes;
/// strides count floats.
template <class T>
struct Heads {
  T* data = nullptr;
  int64_t batch_stride = 0, head_stride = 0, row_stride = 0;
};

struct AttentionSizes {
  int64_t batch = 0, heads = 0, length = 0;  ///< B, H, S
  int64_t head_dim = 0;                      ///< d: 8, 16 or 32
  float scale = 1;                           ///< of q k^T
};

/// out = softmax(scale q k^T, keys up to the query's own) v; log_sum_exp (B, H, S), in base 2.
struct AttentionForward {
  AttentionSizes sizes;
  Heads<const float> q, k, v;
  Heads<float> out;
  float* log_sum_exp = nullptr;
};

/// The gradients of q, k and v from d_out, with what the forward pass left. `delta` (B, H, S) is scratch.
struct AttentionBackward {
  AttentionSizes sizes;
  Heads<const float> q, k, v, out, d_out;
  const float* log_sum_exp = nullptr;
  float* delta = nullptr;
  Heads<float> dq, dk, dv;
};

/// Where and how to launch.
struct AttentionLaunch {
  void* stream = nullptr;  ///< cudaStream_t, of the current device
  int chunk = 0;           ///< rows in a block's shared memory at most; 0: as many as fit. Results do not depend on it.
};

/// Whether there is a kernel of this head dimension, and one launch holds all of a tensor of these sizes.
constexpr bool attention_supports(const AttentionSizes& sizes) {
  constexpr int64_t kLongest = 1 << 24, kBlocks = 65535;  // in a grid's second and third dimension
  return (sizes.head_dim == 8 || sizes.head_dim == 16 || sizes.head_dim == 32) && sizes.batch > 0 &&
         sizes.batch <= kBlocks && sizes.heads > 0 && sizes.heads <= kBlocks && sizes.length > 0 &&
         sizes.length <= kLongest;
}

/// Shared memory of a block at least: longer chunks take more.
int attention_shared_bytes(const AttentionSizes& sizes, AttentionPrecision precision);

/// Launches on the current device and returns at once. Null, or one line with the cause why not: sizes that are not
/// supported, a device without the precision, CUDA's own errors. Results are the same bits in every run.
const char* attention_forward(const AttentionForward& arguments, AttentionPrecision precision,
                              const AttentionLaunch& launch = {});
const char* attention_backward(const AttentionBackward& arguments, AttentionPrecision precision,
                               const AttentionLaunch& launch = {});

}  // namespace igpt::ops::cuda
