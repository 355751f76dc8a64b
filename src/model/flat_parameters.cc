#include "igpt/model/flat_parameters.h"

#include "igpt/libtorch.h"

namespace igpt {

using torch::Tensor;

Tensor flatten_in_place(at::TensorList parameters) {
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> rows;
  for (const Tensor& parameter : parameters) rows.push_back(parameter.detach().flatten());
  const Tensor flat = torch::cat(rows);  // (P)
  int64_t offset = 0;
  for (const Tensor& parameter : parameters) {
    Tensor(parameter).set_data(flat.narrow(0, offset, parameter.numel()).view(parameter.sizes()));
    offset += parameter.numel();
  }
  return flat;
}

std::vector<Tensor> views_of(const Tensor& flat, const std::vector<ops::Parameter>& parameters) {
  std::vector<Tensor> views;
  for (const auto& parameter : parameters)
    views.push_back(flat.narrow(0, parameter.offset, parameter.count()).view(parameter.sizes));
  return views;
}

}  // namespace igpt
