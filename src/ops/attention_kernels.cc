#include "src/ops/attention_kernels.h"

#include <ATen/CPUGeneratorImpl.h>

#include <sstream>

#include "igpt/error.h"
#include "igpt/libtorch.h"
#include "igpt/ops/causal_attention.h"
#include "src/ops/device_table.h"

namespace igpt::ops {
namespace {

using cuda::AttentionPrecision;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

const char* name_of(AttentionPrecision precision) {
  switch (precision) {
    case AttentionPrecision::fp32:
      return "fp32";
    case AttentionPrecision::split_bf16:
      return "split bf16";
    default:
      return "bf16";
  }
}

/// How far a sound kernel may be from double precision, by norm: several times what its tests allow.
double tolerance(AttentionPrecision precision) {
  return precision == AttentionPrecision::fp32 ? 2e-5 : precision == AttentionPrecision::split_bf16 ? 1e-4 : 2e-2;
}

double relative_difference(const at::Tensor& computed, const at::Tensor& expected) {
  return ((computed.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

/// The gradients by autograd of an attention written in LibTorch's operations.
template <class Function>
std::pair<at::Tensor, variable_list> differentiate(Function attention, at::TensorList inputs, const at::Tensor& d_out) {
  const at::AutoGradMode enabled(true);
  variable_list leaves;
  for (const auto& input : inputs) leaves.push_back(input.detach().requires_grad_());
  const auto out = attention(leaves[0], leaves[1], leaves[2]);
  return {out.detach(), torch::autograd::grad({out}, leaves, {d_out})};
}

}  // namespace

at::Tensor libtorch_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  return at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true, scale);
}

struct CheckedAttention::Gradient : torch::autograd::Function<Gradient> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttentionKernels::Output& computed, double scale, AttentionPrecision precision,
                            CheckedAttention* self) {
    context->save_for_backward({q, k, v, computed.out, computed.log_sum_exp});
    context->saved_data["scale"] = scale;
    context->saved_data["precision"] = static_cast<int64_t>(precision);
    context->saved_data["self"] = reinterpret_cast<int64_t>(self);
    return computed.out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& d_outs) {
    if (at::GradMode::is_enabled())
      throw Error("causal attention: the fused kernels are differentiable once; set IGPT_KERNELS=libtorch for more");
    const auto saved = context->get_saved_variables();
    auto* const self = reinterpret_cast<CheckedAttention*>(context->saved_data["self"].toInt());
    const auto gradients = self->gradients(saved[0], saved[1], saved[2], {saved[3], saved[4]}, d_outs[0],
                                           context->saved_data["scale"].toDouble(),
                                           static_cast<AttentionPrecision>(context->saved_data["precision"].toInt()));
    return {gradients[0], gradients[1], gradients[2], {}, {}, {}, {}};
  }
};

std::optional<at::Tensor> CheckedAttention::operator()(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                       double scale) {
  const auto precision = precision_for(q);
  if (!precision || k.scalar_type() != q.scalar_type() || v.scalar_type() != q.scalar_type()) return {};
  if (!trusted(q, *precision)) return {};
  const auto q32 = q.to(at::kFloat), k32 = k.to(at::kFloat), v32 = v.to(at::kFloat);
  AttentionKernels::Output computed;
  try {
    const at::NoGradGuard no_grad;
    computed = kernels_.forward(q32, k32, v32, scale, *precision);
  } catch (const std::exception& error) {
    distrust(q, *precision, error.what());
    return {};
  }
  return Gradient::apply(q32, k32, v32, computed, scale, *precision, this).to(q.scalar_type());
}

std::optional<AttentionPrecision> CheckedAttention::precision_for(const at::Tensor& q) const {
  if (!cuda::attention_supports({q.size(0), q.size(1), q.size(2), q.size(3)})) return {};
  if (q.scalar_type() == at::kBFloat16 && kernels_.has_precision(q, AttentionPrecision::bf16))
    return AttentionPrecision::bf16;
  if (q.scalar_type() != at::kFloat) return {};
  for (const auto precision : {AttentionPrecision::split_bf16, AttentionPrecision::fp32})
    if (kernels_.has_precision(q, precision)) return precision;
  return {};
}

std::array<at::Tensor, 3> CheckedAttention::gradients(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                      const AttentionKernels::Output& forward, const at::Tensor& d_out,
                                                      double scale, AttentionPrecision precision) {
  try {
    return kernels_.backward(q, k, v, forward, d_out, scale, precision);
  } catch (const std::exception& error) {
    distrust(q, precision, error.what());
  }
  const auto attention = [&](auto&... leaves) { return libtorch_attention(leaves..., scale); };
  const auto [out, grads] = differentiate(attention, {q, k, v}, d_out);
  return {grads[0], grads[1], grads[2]};
}

bool CheckedAttention::trusted(const at::Tensor& q, AttentionPrecision precision) {
  const Kernel kernel(q.get_device(), q.size(-1), precision);
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = trusted_.find(kernel); known != trusted_.end()) return known->second;
  }
  const std::string cause = fault(q, precision);
  if (!cause.empty()) {
    distrust(q, precision, cause);
    return false;
  }
  const std::lock_guard lock(mutex_);
  return trusted_.emplace(kernel, true).first->second;
}

std::string CheckedAttention::fault(const at::Tensor& like, AttentionPrecision precision) const {
  constexpr int64_t kBatch = 2, kHeads = 2, kLength = 77;  // several tiles, the last one not full
  const int64_t head_dim = like.size(-1);
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  try {
    const at::NoGradGuard no_grad;
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(/*seed=*/1);  // leaves the caller's numbers alone
    const auto drawn = at::randn({4, kBatch, kHeads, kLength, head_dim}, generator, at::kFloat).to(like.device());
    const auto q = drawn[0], k = drawn[1], v = drawn[2], d_out = drawn[3];
    const auto computed = kernels_.forward(q, k, v, scale, precision);
    const auto gradients = kernels_.backward(q, k, v, computed, d_out, scale, precision);
    const auto exact = drawn.to(at::kDouble);
    const auto attention = [&](auto&... leaves) { return causal_attention_reference(leaves..., scale); };
    const auto [out, grads] = differentiate(attention, {exact[0], exact[1], exact[2]}, exact[3]);
    const std::array<std::pair<const char*, double>, 4> differences = {
        {{"the output", relative_difference(computed.out, out)},
         {"the gradient of q", relative_difference(gradients[0], grads[0])},
         {"the gradient of k", relative_difference(gradients[1], grads[1])},
         {"the gradient of v", relative_difference(gradients[2], grads[2])}}};
    for (const auto& [what, difference] : differences)
      if (!(difference < tolerance(precision))) {
        std::ostringstream text;
        text << what << " differs from the reference by " << difference;
        return text.str();
      }
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return text.substr(0, text.find('\n'));
  }
  return "";
}

void CheckedAttention::distrust(const at::Tensor& q, AttentionPrecision precision, const std::string& cause) {
  {
    const std::lock_guard lock(mutex_);
    const auto [entry, inserted] = trusted_.emplace(Kernel(q.get_device(), q.size(-1), precision), false);
    if (!inserted && !std::exchange(entry->second, false)) return;  // somebody else said so
  }
  TORCH_WARN("the ", name_of(precision), " attention kernel of head dimension ", q.size(-1), " on ", q.device().str(),
             " is not used: ", cause.substr(0, cause.find('\n')), "; LibTorch's is used instead");
}

namespace {

constinit DeviceTable<CheckedAttention> checked_attention;

}  // namespace

void use_attention_kernels(c10::DeviceType device, CheckedAttention* kernels) {
  checked_attention[device] = kernels;
}

CheckedAttention* attention_kernels(c10::DeviceType device) {
  return checked_attention[device];
}

}  // namespace igpt::ops
