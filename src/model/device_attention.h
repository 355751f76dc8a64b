#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>

#include "src/ops/cuda/attention.h"

namespace igpt {

/// Causal attention as a device's library brings it. All tensors are fp32. Throws igpt::Error where the device fails.
struct DeviceAttention {
  struct Output {
    at::Tensor out;          ///< (B, H, S, d)
    at::Tensor log_sum_exp;  ///< (B, H, S), in base 2
  };

  /// Whether the device of `q` can compute in the precision.
  bool (*has_precision)(const at::Tensor& q, ops::cuda::AttentionPrecision precision) = nullptr;
  Output (*forward)(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                    ops::cuda::AttentionPrecision precision) = nullptr;
  /// The gradients of q, k and v.
  std::array<at::Tensor, 3> (*backward)(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const Output& forward, const at::Tensor& d_out, double scale,
                                        ops::cuda::AttentionPrecision precision) = nullptr;
};

/// causal_attention() by `kernels`, differentiable once; nothing where they have no kernel for the tensors. q, k and v
/// are fp32, computed in three bf16 products where the device can and otherwise in fp32; or bf16, computed in bf16.
/// `kernels` must live as long as the autograd graph.
std::optional<at::Tensor> attend_on_device(const DeviceAttention& kernels, const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, double scale);

/// causal_attention() of tensors on devices of this type takes `kernels` from now on; null: no longer.
void use_device_attention(c10::DeviceType device, const DeviceAttention* kernels);
const DeviceAttention* device_attention(c10::DeviceType device);

}  // namespace igpt
