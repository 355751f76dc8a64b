#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>

#include "src/ops/cuda/attention.h"

namespace igpt::ops {

/// causal_attention() by LibTorch's own kernels.
at::Tensor libtorch_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);

/// Causal attention as a device's library brings it. All tensors fp32; whatever cannot be done is an exception.
struct AttentionKernels {
  struct Output {
    at::Tensor out;          ///< (B, H, S, d)
    at::Tensor log_sum_exp;  ///< (B, H, S), in base 2
  };

  /// Whether the device of `q` can compute in the precision.
  bool (*has_precision)(const at::Tensor& q, cuda::AttentionPrecision precision) = nullptr;
  Output (*forward)(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                    cuda::AttentionPrecision precision) = nullptr;
  /// The gradients of q, k and v.
  std::array<at::Tensor, 3> (*backward)(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const Output& forward, const at::Tensor& d_out, double scale,
                                        cuda::AttentionPrecision precision) = nullptr;
};

/// Kernels that are tried before they are trusted: the first use on each device, of each head dimension and precision,
/// compares output and gradients with causal_attention_reference() in double precision on a small input. (A CUDA graph
/// must not be under capture then.) On a difference, and whenever a kernel throws, there is one warning (TORCH_WARN),
/// and the kernel is never used again. For several threads.
class CheckedAttention {
 public:
  explicit CheckedAttention(const AttentionKernels& kernels) : kernels_(kernels) {}

  /// causal_attention(), differentiable once; nothing where there is no kernel or none to trust. q, k and v are fp32,
  /// computed in split_bf16 where the device can, else in fp32; or bf16, computed in bf16.
  std::optional<at::Tensor> operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);

 private:
  struct Gradient;                                                        // the autograd function
  using Kernel = std::tuple<int64_t, int64_t, cuda::AttentionPrecision>;  // device, head dimension

  std::optional<cuda::AttentionPrecision> precision_for(const at::Tensor& q) const;
  bool trusted(const at::Tensor& q, cuda::AttentionPrecision precision);
  std::string fault(const at::Tensor& like, cuda::AttentionPrecision precision) const;  // of the kernel; empty if none
  void distrust(const at::Tensor& q, cuda::AttentionPrecision precision, const std::string& cause);
  std::array<at::Tensor, 3> gradients(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                      const AttentionKernels::Output& forward, const at::Tensor& d_out, double scale,
                                      cuda::AttentionPrecision precision);

  AttentionKernels kernels_;
  std::mutex mutex_;
  std::map<Kernel, bool> trusted_;
};

/// causal_attention() tries `kernels` for tensors on devices of this type from now on; null: no longer. They must live
/// as long as autograd graphs that they are part of.
void use_attention_kernels(c10::DeviceType device, CheckedAttention* kernels);
CheckedAttention* attention_kernels(c10::DeviceType device);

}  // namespace igpt::ops
