#include "igpt/checkpoint/checkpoint_palette.h"

#include "igpt/checkpoint/checkpoint.h"

namespace igpt {

data::Palette palette_of(const std::string& path) {
  const Checkpoint checkpoint = read_checkpoint(path);
  require_palette(checkpoint, path);
  const ImageGPTOptions& model = checkpoint.model;
  if (model.palette.empty()) return data::Palette::grey(model.num_vocab);
  return {model.channels, model.palette, model.centroids};
}

}  // namespace igpt
