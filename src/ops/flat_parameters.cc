#include "igpt/ops/flat_parameters.h"

#include "igpt/libtorch.h"

namespace igpt::ops {

using torch::Tensor;

Tensor concatenated(at::TensorList parameters) {
  std::vector<Tensor> rows;
  for (const Tensor& parameter : parameters) rows.push_back(parameter.detach().flatten());
  return torch::cat(rows);  // (P)
}

Tensor flatten_in_place(at::TensorList parameters) {
  const torch::NoGradGuard no_grad;
  auto flat = concatenated(parameters);
  const auto views = views_of(flat, parameters);
  for (size_t i = 0; i < parameters.size(); ++i) Tensor(parameters[i]).set_data(views[i]);
  return flat;
}

std::vector<Tensor> views_of(const Tensor& flat, at::TensorList parameters) {
  std::vector<Tensor> views;
  int64_t offset = 0;
  for (const Tensor& parameter : parameters) {
    views.push_back(flat.narrow(0, offset, parameter.numel()).view(parameter.sizes()));
    offset += parameter.numel();
  }
  return views;
}

}  // namespace igpt::ops
