#include "igpt/checkpoint/checkpoint.h"
#include "igpt/data/datasets.h"
#include "igpt/error.h"
#include "igpt/shell_quoted.h"

namespace igpt {

ImageGPT make_model(const Checkpoint& checkpoint) {
  ImageGPT model(checkpoint.model);
  torch::NoGradGuard no_grad;
  auto parameters = model->named_parameters();
  for (const auto& [name, tensor] : checkpoint.state_dict) parameters[name].copy_(tensor);
  model->eval();
  return model;
}

data::ExpectedSplit expected_images(const Checkpoint& checkpoint, const std::string& path,
                                    std::string other_size_cure) {
  return {.num_vocab = checkpoint.model.num_vocab,
          .num_pixels = checkpoint.model.num_pixels,
          .other_size_cure = std::move(other_size_cure),
          .checkpoint = path,
          .dataset = checkpoint.dataset,
          .palette = checkpoint.palette,
          .lacks_palette = checkpoint.lacks_palette};
}

std::string dataset_of(const data::Split& split) {
  return split.info ? split.info->dataset : "";
}

std::string note_on_dataset(const Checkpoint& checkpoint, const std::string& path, const data::Split& split,
                            const std::string& x) {
  const std::string dataset = dataset_of(split);
  if (!checkpoint.dataset.empty() && !dataset.empty() && dataset != checkpoint.dataset)
    return path + " was trained on " + data::title_of(checkpoint.dataset) + "; " + x + " holds " +
           data::title_of(dataset);
  return "";
}

std::string note_on_palette(const Checkpoint& checkpoint, const std::string& path, const data::Split& split,
                            const std::string& x) {
  if (checkpoint.lacks_palette)
    return path + ": its tokens are indices of a palette that it does not hold; make sure that " + x +
           " was made with it";
  const bool own_palette = checkpoint.palette && *checkpoint.palette != data::Palette::grey(16);
  if (own_palette && !split.info)
    return path + ": its images have a palette of their own; make sure that those of " + x +
           " have it, as prepare_data --palette " + shell_quoted(path) + " makes them";
  return "";
}

void require_palette(const Checkpoint& checkpoint, const std::string& path) {
  if (checkpoint.lacks_palette)
    throw InputError(path + ": its tokens are indices of a palette that it does not hold; " +
                     (std::filesystem::is_directory(path) ? "add the preprocessor_config.json that belongs to it"
                                                          : "take a checkpoint that holds its centroids"));
}

void require_head(const Checkpoint& checkpoint, const std::string& path) {
  if (checkpoint.lacks_head)
    throw InputError(path +
                     ": is a classifier without lm_head.weight and cannot predict pixels; take the model that it was "
                     "trained from");
}

std::vector<std::pair<std::string, torch::Tensor>> copy_state_dict(const ImageGPT& model) {
  std::vector<std::pair<std::string, torch::Tensor>> state_dict;
  for (const auto& entry : model->named_parameters())
    state_dict.emplace_back(entry.key(), entry.value().detach().to(torch::kCPU, torch::kFloat32).clone());
  return state_dict;
}

}  // namespace igpt
