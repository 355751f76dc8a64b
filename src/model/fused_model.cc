#include "igpt/model/fused_model.h"

#include <ATen/Parallel.h>

#include "igpt/error.h"
#include "igpt/libtorch.h"
#include "igpt/ops/flat_parameters.h"
#include "igpt/ops/kernels.h"
#include "src/model/kernel_shapes.h"

namespace igpt {
namespace {

using torch::Tensor;

template <class T>
std::span<T> span_of(const Tensor& tensor) {
  return {tensor.data_ptr<std::remove_const_t<T>>(), static_cast<size_t>(tensor.numel())};
}

// The buffer that the tensors are views of, one after the other; undefined where they are not.
Tensor flat_view(at::TensorList tensors) {
  const Tensor& first = tensors.front();
  int64_t count = 0;
  for (const Tensor& tensor : tensors) {
    const bool next = tensor.defined() && tensor.is_contiguous() && tensor.is_alias_of(first) &&
                      tensor.storage_offset() == first.storage_offset() + count;
    if (!next) return {};
    count += tensor.numel();
  }
  return first.detach().as_strided({count}, {1}, first.storage_offset());
}

}  // namespace

bool FusedModel::supports(const ImageGPTOptions& options, c10::Device device) {
  const bool ours = ops::kernels() == ops::Kernels::fused || ops::kernels() == ops::Kernels::emulated;
  return device.is_cpu() && ours && ops::cpu::supports(cpu_shape(options));
}

ops::cpu::Precision FusedModel::precision(const ImageGPTOptions& options, bool bf16, std::string* note) {
  if (!bf16) return ops::cpu::Precision::fp32;
  const auto wanted =
      ops::kernels() == ops::Kernels::emulated ? ops::cpu::Precision::emulated_bf16 : ops::cpu::Precision::bf16;
  std::string why = ops::cpu::why_not(wanted);
  if (!why.empty() && wanted == ops::cpu::Precision::emulated_bf16)
    throw UsageError("IGPT_KERNELS=emulated: " + why + "; use IGPT_KERNELS=fused");
  if (why.empty() && cpu_shape(options).head_dim() > ops::cpu::kLargestBf16HeadDim)
    why = "AMX takes heads up to " + std::to_string(ops::cpu::kLargestBf16HeadDim) + " wide";
  if (why.empty()) return wanted;
  if (note) *note = why + ": computing in fp32, which is faster than bf16 without AMX";
  return ops::cpu::Precision::fp32;
}

FusedModel::FusedModel(const ImageGPTOptions& options, int threads, ops::cpu::Precision precision)
    : step_(std::make_unique<ops::cpu::FusedStep>(cpu_shape(options), threads > 0 ? threads : at::get_num_threads(),
                                                  precision)) {
  for (const auto& parameter : ops::ParameterTable(shape_of(options)).parameters) sizes_.push_back(parameter.sizes);
}

// Forward computes the gradients with the loss; backward hands them out.
struct FusedModel::Loss : torch::autograd::Function<Loss> {
  static Tensor forward(torch::autograd::AutogradContext* context, FusedModel* model, const Tensor& x,
                        const std::optional<Tensor>& y, at::TensorList parameters) {
    const Tensor gradients = torch::zeros({ops::cpu::parameter_count(model->step_->shape())});  // (P)
    const double loss =
        model->step(x, y.value_or(Tensor()), parameters, /*scale=*/1, /*generative_weight=*/0, gradients);
    auto views = ops::views_of(gradients, parameters);
    for (const size_t unused : model->unused(/*classify=*/y.has_value())) views[unused] = Tensor();
    context->saved_data["gradients"] = std::move(views);
    return torch::scalar_tensor(loss, torch::kFloat32);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    torch::autograd::variable_list result(3);  // model, x, y
    for (const Tensor& gradient : context->saved_data["gradients"].toTensorVector())
      result.push_back(gradient.defined() ? gradient * grad_outputs[0] : Tensor());
    return result;
  }
};

std::vector<size_t> FusedModel::unused(bool classify) const {
  const size_t count = sizes_.size();  // ..., ln_f.weight, ln_f.bias, head.weight, clf_head.weight, clf_head.bias
  auto result = classify ? std::vector<size_t>{count - 3} : std::vector<size_t>{count - 2, count - 1};
  if (!step_->shape().final_norm) result.insert(result.end(), {count - 5, count - 4});
  return result;
}

Tensor FusedModel::tokens(const Tensor& x) const {
  const int64_t length = step_->shape().sequence_length, vocab = step_->shape().num_vocab;
  if (x.dim() != 2 || x.size(1) != length || !x.device().is_cpu() || !c10::isIntegralType(x.scalar_type(), false))
    throw Error("fused model: the tokens are not (B, " + std::to_string(length) + ") integers on the CPU");
  if (x.scalar_type() != torch::kUInt8 && x.numel() > 0) {
    const auto [smallest, largest] = x.aminmax();
    if (smallest.item<int64_t>() < 0 || largest.item<int64_t>() >= vocab)
      throw InputError("fused model: a token is outside the palette of " + std::to_string(vocab) +
                       "; prepare the data set again");
  }
  return x.to(torch::kUInt8).contiguous();
}

Tensor FusedModel::flat_weights(at::TensorList parameters) const {
  if (parameters.size() != sizes_.size()) throw Error("fused model: the parameters are not those of the model");
  for (size_t i = 0; i < sizes_.size(); ++i)
    if (parameters[i].sizes() != c10::IntArrayRef(sizes_[i]) || parameters[i].scalar_type() != torch::kFloat32 ||
        !parameters[i].device().is_cpu())
      throw Error("fused model: the parameters are not those of the model, fp32 on the CPU");
  const Tensor flat = flat_view(parameters);
  return flat.defined() ? flat : ops::concatenated(parameters);
}

double FusedModel::step(const Tensor& x, const Tensor& y, at::TensorList parameters, double scale,
                        double generative_weight, const Tensor& gradients) {
  const Tensor tokens_of_x = tokens(x), weights = flat_weights(parameters);
  const auto tokens_span = span_of<const uint8_t>(tokens_of_x);
  const auto factor = static_cast<float>(scale);
  if (!y.defined())
    return step_->generative(tokens_span, span_of<const float>(weights), factor, span_of<float>(gradients));
  const Tensor labels = y.to(torch::kInt64).contiguous();
  return step_->classifier(tokens_span, span_of<const int64_t>(labels), span_of<const float>(weights), factor,
                           span_of<float>(gradients), static_cast<float>(generative_weight));
}

double FusedModel::add_gradients(const Tensor& x, const Tensor& y, at::TensorList parameters, double scale,
                                 double generative_weight) {
  std::vector<Tensor> gradients;
  for (const Tensor& parameter : parameters) gradients.push_back(parameter.grad());
  const Tensor flat = flat_view(gradients);
  if (flat.defined() && flat.scalar_type() == torch::kFloat32)
    return step(x, y, parameters, scale, generative_weight, flat);
  const Tensor separate = torch::zeros({ops::cpu::parameter_count(step_->shape())});  // (P)
  const double loss = step(x, y, parameters, scale, generative_weight, separate);
  const auto views = ops::views_of(separate, parameters);
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].defined()) throw Error("fused model: a parameter has no gradient to add to");
    gradients[i].add_(views[i]);
  }
  return loss;
}

Tensor FusedModel::loss(const Tensor& x, const Tensor& y, at::TensorList parameters) {
  const bool differentiable =
      at::GradMode::is_enabled() &&
      std::any_of(parameters.begin(), parameters.end(), [](const Tensor& p) { return p.requires_grad(); });
  if (differentiable) return Loss::apply(this, x, y.defined() ? std::optional(y) : std::nullopt, parameters);
  if (y.defined()) return torch::nn::functional::cross_entropy(class_logits(x, parameters), y.to(torch::kInt64));
  return (nats_per_image(x, parameters).mean() / step_->shape().sequence_length).to(torch::kFloat32);
}

Tensor FusedModel::generative_loss(const Tensor& x, at::TensorList parameters) {
  return loss(x, {}, parameters);
}

Tensor FusedModel::classifier_loss(const Tensor& x, const Tensor& y, at::TensorList parameters) {
  return loss(x, y, parameters);
}

double FusedModel::add_generative_gradients(const Tensor& x, at::TensorList parameters, double scale) {
  return add_gradients(x, {}, parameters, scale);
}

double FusedModel::add_classifier_gradients(const Tensor& x, const Tensor& y, at::TensorList parameters, double scale,
                                            double generative_weight) {
  return add_gradients(x, y, parameters, scale, generative_weight);
}

Tensor FusedModel::nats_per_image(const Tensor& x, at::TensorList parameters) {
  const Tensor tokens_of_x = tokens(x), weights = flat_weights(parameters);
  const Tensor nats = torch::empty({x.size(0)}, torch::kFloat64);
  step_->nats(span_of<const uint8_t>(tokens_of_x), span_of<const float>(weights), span_of<double>(nats));
  return nats;
}

Tensor FusedModel::class_logits(const Tensor& x, at::TensorList parameters) {
  const Tensor tokens_of_x = tokens(x), weights = flat_weights(parameters);
  const Tensor logits = torch::empty({x.size(0), step_->shape().num_classes});
  step_->class_logits(span_of<const uint8_t>(tokens_of_x), span_of<const float>(weights), span_of<float>(logits));
  return logits;
}

Tensor FusedModel::logits(const Tensor& x, at::TensorList parameters) {
  const Tensor tokens_of_x = tokens(x), weights = flat_weights(parameters);
  const Tensor result = torch::empty({x.size(0), x.size(1), step_->shape().num_vocab});
  step_->logits(span_of<const uint8_t>(tokens_of_x), span_of<const float>(weights), span_of<float>(result));
  return result;
}

}  // namespace igpt
