#pragma once

#include "src/model/device_attention.h"

namespace igpt::backend::cuda {

/// DeviceAttention' forward and backward on `stream` (cudaStream_t). Tensors whose rows the kernels cannot read as
/// they lie are copied first; results lie as (B, S, H, d), so that the heads of a token are adjacent. Throws
/// igpt::Error with CUDA's words.
DeviceAttention::Output attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                               ops::cuda::AttentionPrecision precision, void* stream);
std::array<at::Tensor, 3> attend_backward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                          const DeviceAttention::Output& forward, const at::Tensor& d_out, double scale,
                                          ops::cuda::AttentionPrecision precision, void* stream);

}  // namespace igpt::backend::cuda
