#include "igpt/checkpoint/checkpoint_info.h"

#include <algorithm>

#include "igpt/checkpoint/checkpoint.h"

namespace igpt {
namespace {

// "layers.0" of "layers.0.ln_1.weight", "head" of "head.weight"
std::string layer_of(const std::string& parameter) {
  const std::string blocks = "layers.";
  return parameter.substr(0, parameter.find('.', parameter.starts_with(blocks) ? blocks.size() : 0));
}

}  // namespace

CheckpointInfo describe_checkpoint(const std::string& path) {
  const auto checkpoint = read_checkpoint(path);
  CheckpointInfo info{.model = checkpoint.model,
                      .classify = checkpoint.classify,
                      .is_resumable = checkpoint.progress.has_value(),
                      .palette = checkpoint.palette,
                      .dataset = checkpoint.dataset,
                      .epoch = checkpoint.epoch,
                      .global_step = checkpoint.global_step};
  for (const auto& [name, tensor] : checkpoint.state_dict) {
    const auto layer = layer_of(name);
    if (info.parameters.empty() || info.parameters.back().first != layer) info.parameters.emplace_back(layer, 0);
    info.parameters.back().second += tensor.numel();
  }
  if (checkpoint.progress && checkpoint.progress->best_step >= 0) {
    info.best_step = checkpoint.progress->best_step;
    info.best_score = checkpoint.progress->best_score;
  }
  const auto of_model = values_of(checkpoint.model);
  for (const auto& [name, value] : checkpoint.hyper_parameters)
    if (std::ranges::find(of_model, name, &FieldValues::value_type::first) == of_model.end() && name != "classify" &&
        value.index() > 0)
      info.training.emplace_back(name, value);
  return info;
}

}  // namespace igpt
