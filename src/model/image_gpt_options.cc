#include "igpt/model/image_gpt_options.h"

#include "igpt/error.h"

namespace igpt {

const Architecture& find_architecture(const std::string& name) {
  for (const Architecture& architecture : kArchitectures)
    if (architecture.name == name) return architecture;
  throw UsageError("--arch " + name + ": must be " + in_words(architecture_names()));
}

ops::ModelShape shape_of(const ImageGPTOptions& options) {
  ops::ModelShape shape = find_architecture(options.arch).properties;
  shape.embed_dim = options.embed_dim;
  shape.num_heads = options.num_heads;
  shape.num_layers = options.num_layers;
  shape.sequence_length = options.sequence_length();
  shape.num_vocab = options.num_vocab;
  shape.num_classes = options.num_classes;
  if (shape.neighbours > 0) {
    shape.neighbours = options.neighbours;
    shape.table_rank = options.table_rank;
    shape.conv_taps = options.conv_taps;
  }
  shape.conditional = options.conditional;
  if (options.final_norm) shape.final_norm = *options.final_norm;
  return shape;
}

void check(const ImageGPTOptions& options) {
  check_fields(options);
  if (options.embed_dim % options.num_heads != 0)
    throw UsageError("--embed_dim " + std::to_string(options.embed_dim) + ": must be a multiple of --num_heads " +
                     std::to_string(options.num_heads));
  if (!options.shifted_classifier && options.arch != kPaperArch)
    throw UsageError("--arch " + options.arch + ": has no classifier that reads the pixels unshifted");
  const bool palette_fits = (options.channels == 1 || options.channels == 3) &&
                            (options.palette.empty() ||
                             static_cast<int64_t>(options.palette.size()) == options.num_vocab * options.channels) &&
                            (options.centroids.empty() || options.centroids.size() == options.palette.size());
  if (!palette_fits)
    throw UsageError("--num_vocab " + std::to_string(options.num_vocab) + ": the palette has " +
                     std::to_string(options.palette.size()) + " bytes for " + std::to_string(options.channels) +
                     " channels; take --num_vocab from the data set's palette");
}

}  // namespace igpt
