#include "igpt/checkpoint/checkpoint_palette.h"

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/error.h"

namespace igpt {

data::Palette palette_of(const std::string& path) {
  return palette_in(read_checkpoint(path), path);
}

data::Palette palette_in(const Checkpoint& checkpoint, const std::string& path) {
  require_palette(checkpoint, path);
  const ImageGPTOptions& model = checkpoint.model;
  if (model.palette.empty() && model.num_vocab > 256)
    throw InputError(path + ": has " + std::to_string(model.num_vocab) +
                     " colours, which the file does not name; take a checkpoint with a palette");
  if (model.palette.empty()) return data::Palette::grey(model.num_vocab);
  return {model.channels, model.palette, model.centroids};
}

}  // namespace igpt
