#include "igpt/model/fused.h"

#include "igpt/ops/kernels.h"

namespace igpt {

std::unique_ptr<ops::cpu::FusedStep> make_fused_step(const ImageGPTOptions& options, c10::Device device, bool bf16) {
  const ops::cpu::ModelShape shape{options.embed_dim,         options.num_heads, options.num_layers,
                                   options.sequence_length(), options.num_vocab, options.num_classes};
  if (!device.is_cpu() || bf16 || ops::kernels() == ops::Kernels::reference || !ops::cpu::supports(shape))
    return nullptr;
  return std::make_unique<ops::cpu::FusedStep>(shape, at::get_num_threads());
}

torch::Tensor flat_weights(const ImageGPT& model) {
  std::vector<torch::Tensor> parameters;
  for (const auto& parameter : model->parameters())
    parameters.push_back(parameter.detach().to(torch::kCPU, torch::kFloat32).flatten());
  return torch::cat(parameters);
}

}  // namespace igpt
