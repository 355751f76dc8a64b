#include "src/model/device_attention.h"

#include <atomic>

#include "igpt/error.h"
#include "igpt/libtorch.h"

namespace igpt {
namespace {

using ops::cuda::AttentionPrecision;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::array<std::atomic<const DeviceAttention*>, c10::COMPILE_TIME_MAX_DEVICE_TYPES> registered{};

std::optional<AttentionPrecision> precision_for(const DeviceAttention& kernels, const at::Tensor& q) {
  if (!ops::cuda::attention_supports({q.size(0), q.size(1), q.size(2), q.size(3)})) return {};
  if (q.scalar_type() == at::kBFloat16 && kernels.has_precision(q, AttentionPrecision::bf16))
    return AttentionPrecision::bf16;
  if (q.scalar_type() != at::kFloat) return {};
  for (const auto precision : {AttentionPrecision::bf16x3, AttentionPrecision::fp32})
    if (kernels.has_precision(q, precision)) return precision;
  return {};
}

struct Attention : torch::autograd::Function<Attention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            double scale, AttentionPrecision precision, const DeviceAttention* kernels) {
    const auto computed = kernels->forward(q, k, v, scale, precision);
    context->save_for_backward({q, k, v, computed.out, computed.log_sum_exp});
    context->saved_data["scale"] = scale;
    context->saved_data["precision"] = static_cast<int64_t>(precision);
    context->saved_data["kernels"] = reinterpret_cast<int64_t>(kernels);
    return computed.out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& d_outs) {
    if (at::GradMode::is_enabled())
      throw Error("causal attention: the fused kernels are differentiable once; set IGPT_KERNELS=libtorch for more");
    const auto saved = context->get_saved_variables();
    const auto* const kernels = reinterpret_cast<const DeviceAttention*>(context->saved_data["kernels"].toInt());
    const auto gradients = kernels->backward(saved[0], saved[1], saved[2], {saved[3], saved[4]}, d_outs[0],
                                             context->saved_data["scale"].toDouble(),
                                             static_cast<AttentionPrecision>(context->saved_data["precision"].toInt()));
    return {gradients[0], gradients[1], gradients[2], {}, {}, {}};
  }
};

}  // namespace

std::optional<at::Tensor> attend_on_device(const DeviceAttention& kernels, const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, double scale) {
  const auto precision = precision_for(kernels, q);
  if (!precision || k.scalar_type() != q.scalar_type() || v.scalar_type() != q.scalar_type()) return {};
  return Attention::apply(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat), scale, *precision, &kernels)
      .to(q.scalar_type());
}

void use_device_attention(c10::DeviceType device, const DeviceAttention* kernels) {
  registered[static_cast<size_t>(device)] = kernels;
}

const DeviceAttention* device_attention(c10::DeviceType device) {
  return registered[static_cast<size_t>(device)];
}

}  // namespace igpt
