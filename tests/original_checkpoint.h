#pragma once

#include <filesystem>
#include <variant>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/formats/torch_file.h"

namespace igpt::testing {

/// The checkpoint as the original project writes it: without the architecture, ln_f always there, and with `centroids`
/// (V, C) in the state dict where they are defined.
inline void write_as_original(const std::filesystem::path& path, const Checkpoint& checkpoint,
                              const torch::Tensor& centroids = {}) {
  using Value = formats::PickleValue;
  const auto value_of = [](const torch::Tensor& tensor) {
    const auto owner = std::make_shared<torch::Tensor>(tensor.to(torch::kFloat32).contiguous());
    const std::span bytes(static_cast<const std::byte*>(owner->const_data_ptr()), owner->nbytes());
    return Value::tensor(formats::DType::float32, owner->sizes().vec(), bytes, owner);
  };
  auto state_dict = Value::ordered_dict();
  if (centroids.defined()) state_dict.insert("centroids", value_of(centroids));
  for (const auto& [name, tensor] : checkpoint.state_dict) state_dict.insert("gpt." + name, value_of(tensor));
  const auto& model = checkpoint.model;
  auto hyper_parameters = Value::dict({{"embed_dim", model.embed_dim},
                                       {"num_heads", model.num_heads},
                                       {"num_layers", model.num_layers},
                                       {"num_pixels", model.num_pixels},
                                       {"num_vocab", model.num_vocab},
                                       {"num_classes", model.num_classes},
                                       {"classify", checkpoint.classify}});
  for (const auto& [name, parameter] : checkpoint.hyper_parameters)
    if (const auto* text = std::get_if<std::string>(&parameter)) hyper_parameters.insert(name, *text);
  formats::write_torch_file(
      path,
      Value::dict(
          {{"epoch", 29}, {"global_step", 24476}, {"state_dict", state_dict}, {"hyper_parameters", hyper_parameters}}));
}

}  // namespace igpt::testing
