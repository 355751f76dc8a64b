#include "src/backend/cuda/attention_tensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>

#include "igpt/error.h"

namespace igpt::backend::cuda {
namespace {

using ops::cuda::AttentionPrecision;
using ops::cuda::AttentionSizes;
using ops::cuda::Heads;

/// As the kernels take rows: features adjacent, each row at a multiple of 16 bytes.
at::Tensor with_rows(const at::Tensor& x) {
  const bool fits = x.stride(3) == 1 && x.stride(0) % 4 == 0 && x.stride(1) % 4 == 0 && x.stride(2) % 4 == 0 &&
                    x.stride(2) <= INT32_MAX && reinterpret_cast<uintptr_t>(x.const_data_ptr<float>()) % 16 == 0;
  return fits ? x : x.clone(at::MemoryFormat::Contiguous);
}

Heads<const float> heads_of(const at::Tensor& x) {
  return {x.const_data_ptr<float>(), x.stride(0), x.stride(1), static_cast<int>(x.stride(2))};
}
Heads<float> writable_heads_of(const at::Tensor& x) {
  return {x.mutable_data_ptr<float>(), x.stride(0), x.stride(1), static_cast<int>(x.stride(2))};
}

AttentionSizes sizes_of(const at::Tensor& q, double scale) {
  return {q.size(0), q.size(1), q.size(2), q.size(3), static_cast<float>(scale)};
}

void throw_if(const char* cause) {
  if (cause) throw DeviceError(std::string("causal attention on CUDA: ") + cause);
}

}  // namespace

DeviceAttention::Output attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                               AttentionPrecision precision, void* stream) {
  const auto sizes = sizes_of(q, scale);
  const auto q_rows = with_rows(q), k_rows = with_rows(k), v_rows = with_rows(v);
  const auto out = at::empty({sizes.batch, sizes.length, sizes.heads, sizes.head_dim}, q.options()).transpose(1, 2);
  const auto log_sum_exp = at::empty({sizes.batch, sizes.heads, sizes.length}, q.options());
  throw_if(ops::cuda::attention_forward({sizes, heads_of(q_rows), heads_of(k_rows), heads_of(v_rows),
                                         writable_heads_of(out), log_sum_exp.mutable_data_ptr<float>()},
                                        precision, {.stream = stream}));
  return {out, log_sum_exp};
}

std::array<at::Tensor, 3> attend_backward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                          const DeviceAttention::Output& forward, const at::Tensor& d_out, double scale,
                                          AttentionPrecision precision, void* stream) {
  const auto sizes = sizes_of(q, scale);
  const auto q_rows = with_rows(q), k_rows = with_rows(k), v_rows = with_rows(v), d_out_rows = with_rows(d_out);
  const auto out_rows = with_rows(forward.out), log_sum_exp = forward.log_sum_exp.contiguous();
  const auto delta = at::empty({sizes.batch, sizes.heads, sizes.length}, q.options());
  // (B, S, 3, H, d): as the projection before attention has q, k and v side by side
  const auto gradients = at::empty({sizes.batch, sizes.length, 3, sizes.heads, sizes.head_dim}, q.options());
  const auto part = [&](int64_t i) { return gradients.select(2, i).transpose(1, 2); };
  const std::array<at::Tensor, 3> result = {part(0), part(1), part(2)};
  throw_if(ops::cuda::attention_backward(
      {sizes, heads_of(q_rows), heads_of(k_rows), heads_of(v_rows), heads_of(out_rows), heads_of(d_out_rows),
       log_sum_exp.const_data_ptr<float>(), delta.mutable_data_ptr<float>(), writable_heads_of(result[0]),
       writable_heads_of(result[1]), writable_heads_of(result[2])},
      precision, {.stream = stream}));
  return result;
}

}  // namespace igpt::backend::cuda
