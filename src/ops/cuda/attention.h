#pragma once

#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// The precision of causal attention's products. Sums, softmax and results are always fp32.
enum class AttentionPrecision {
  fp32,    ///< on the ordinary units: every device
  bf16x3,  ///< on tensor cores (sm_80 and later), each fp32 as two or three bf16: within 1e-5 of exact
  bf16,    ///< on tensor cores: logits as from 16-bit mantissas, weights and gradients from 8-bit ones
};

/// A (B, H, S, d) tensor in device memory. The d features are adjacent, each row begins at a multiple of 16 bytes;
/// strides count floats.
template <class T>
struct Heads {
  simt::Global<T> data = nullptr;
  int64_t batch_stride = 0, head_stride = 0;
  int row_stride = 0;
};

struct AttentionSizes {
  int64_t batch = 0;          ///< B
  int heads = 0, length = 0;  ///< H, S
  int head_dim = 0;           ///< d: 8, 16 or 32
  float scale = 1;            ///< of q k^T

  /// Sizes beyond the range of int become its largest value, for which there is no kernel either.
  constexpr AttentionSizes(int64_t images, int64_t all_heads, int64_t positions, int64_t features, float factor = 1)
      : batch(images), heads(as_int(all_heads)), length(as_int(positions)), head_dim(as_int(features)), scale(factor) {}

 private:
  static constexpr int as_int(int64_t n) { return static_cast<int>(n < INT32_MAX ? n : INT32_MAX); }
};

/// out = softmax(scale q k^T, keys up to the query's own) v; log_sum_exp (B, H, S), in base 2.
struct AttentionForward {
  AttentionSizes sizes;
  Heads<const float> q, k, v;
  Heads<float> out;
  simt::Global<float> log_sum_exp = nullptr;
};

/// The gradients of q, k and v from d_out, with what the forward pass left. `delta` (B, H, S) is scratch.
struct AttentionBackward {
  AttentionSizes sizes;
  Heads<const float> q, k, v, out, d_out;
  simt::Global<const float> log_sum_exp = nullptr;
  simt::Global<float> delta = nullptr;
  Heads<float> dq, dk, dv;
};

/// Where and how to launch.
struct AttentionLaunch {
  void* stream = nullptr;  ///< cudaStream_t, of the current device
  int chunk = 0;           ///< most rows in a block's shared memory; 0: as many as fit. Results do not depend on it.
};

/// Whether there is a kernel for this head dimension, and a grid is large enough for a tensor of these sizes.
constexpr bool attention_supports(const AttentionSizes& sizes) {
  constexpr int64_t kLongest = 1 << 24, kBlocks = 65535;  // in a grid's second and third dimension
  return (sizes.head_dim == 8 || sizes.head_dim == 16 || sizes.head_dim == 32) && sizes.batch > 0 &&
         sizes.batch <= kBlocks && sizes.heads > 0 && sizes.heads <= kBlocks && sizes.length > 0 &&
         sizes.length <= kLongest;
}

/// The least shared memory of a block; longer chunks take more.
int attention_shared_bytes(const AttentionSizes& sizes, AttentionPrecision precision);

/// Launches on the current device and returns at once: null, or one line with the cause of a failure (sizes that are
/// not supported, a device without the precision, CUDA's own errors). Results are the same bits in every run.
const char* attention_forward(const AttentionForward& arguments, AttentionPrecision precision,
                              const AttentionLaunch& launch = {});
const char* attention_backward(const AttentionBackward& arguments, AttentionPrecision precision,
                               const AttentionLaunch& launch = {});

}  // namespace igpt::ops::cuda
