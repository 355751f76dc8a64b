#include "igpt/checkpoint/checkpoint.h"

namespace igpt {

ImageGPT make_model(const Checkpoint& checkpoint) {
  ImageGPT model(checkpoint.model);
  torch::NoGradGuard no_grad;
  auto parameters = model->named_parameters();
  for (const auto& [name, tensor] : checkpoint.state_dict) parameters[name].copy_(tensor);
  model->eval();
  return model;
}

std::vector<std::pair<std::string, torch::Tensor>> copy_state_dict(const ImageGPT& model) {
  std::vector<std::pair<std::string, torch::Tensor>> state_dict;
  for (const auto& entry : model->named_parameters())
    state_dict.emplace_back(entry.key(), entry.value().detach().to(torch::kCPU, torch::kFloat32).clone());
  return state_dict;
}

}  // namespace igpt
