// What libigpt_cuda.so offers to ops/device.cc besides its probe.

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "src/ops/cuda/attention_tensors.h"

namespace igpt::ops::cuda {
namespace {

bool has_precision(const at::Tensor& q, AttentionPrecision precision) {
  return precision == AttentionPrecision::fp32 || at::cuda::getDeviceProperties(q.get_device())->major >= 8;
}

AttentionKernels::Output forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                 AttentionPrecision precision) {
  const c10::cuda::CUDAGuard device(q.device());
  return attend(q, k, v, scale, precision, c10::cuda::getCurrentCUDAStream().stream());
}

std::array<at::Tensor, 3> backward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const AttentionKernels::Output& computed, const at::Tensor& d_out, double scale,
                                   AttentionPrecision precision) {
  const c10::cuda::CUDAGuard device(q.device());
  return attend_backward(q, k, v, computed, d_out, scale, precision, c10::cuda::getCurrentCUDAStream().stream());
}

}  // namespace
}  // namespace igpt::ops::cuda

/// For igpt::ops::use_attention_kernels().
extern "C" const igpt::ops::AttentionKernels igpt_cuda_attention;
const igpt::ops::AttentionKernels igpt_cuda_attention = {igpt::ops::cuda::has_precision, igpt::ops::cuda::forward,
                                                         igpt::ops::cuda::backward};
