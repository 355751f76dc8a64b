#include "igpt/model/options.h"

#include "igpt/error.h"

namespace igpt {

const Architecture& find_architecture(const std::string& name) {
  for (const Architecture& architecture : kArchitectures)
    if (architecture.name == name) return architecture;
  throw UsageError("--arch " + name + ": must be " + in_words(architecture_names()));
}

ops::ModelShape shape_of(const ImageGPTOptions& options) {
  const Architecture& architecture = find_architecture(options.arch);
  return {.embed_dim = options.embed_dim,
          .num_heads = options.num_heads,
          .num_layers = options.num_layers,
          .sequence_length = options.sequence_length(),
          .num_vocab = options.num_vocab,
          .num_classes = options.num_classes,
          .neighbours = architecture.neighbours ? options.neighbours : 0,
          .pre_norm = architecture.pre_norm,
          .final_norm = options.final_norm.value_or(architecture.final_norm)};
}

void check(const ImageGPTOptions& options) {
  check_fields(options);
  if (options.embed_dim % options.num_heads != 0)
    throw UsageError("--embed_dim " + std::to_string(options.embed_dim) + ": must be a multiple of --num_heads " +
                     std::to_string(options.num_heads));
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
