#include "igpt/training/flat_parameters.h"

namespace igpt::training {

using torch::Tensor;

Tensor flatten_in_place(std::vector<Tensor>& parameters) {
  torch::NoGradGuard no_grad;
  std::vector<Tensor> flattened;
  for (const auto& parameter : parameters) flattened.push_back(parameter.detach().flatten());
  auto flat = torch::cat(flattened);  // (P)
  const auto views = views_of(flat, parameters);
  for (size_t i = 0; i < parameters.size(); ++i) parameters[i].set_data(views[i]);
  return flat;
}

std::vector<Tensor> views_of(const Tensor& flat, const std::vector<Tensor>& parameters) {
  std::vector<Tensor> views;
  int64_t offset = 0;
  for (const auto& parameter : parameters) {
    views.push_back(flat.narrow(0, offset, parameter.numel()).view(parameter.sizes()));
    offset += parameter.numel();
  }
  return views;
}

}  // namespace igpt::training
