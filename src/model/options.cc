#include "igpt/model/options.h"

#include "igpt/error.h"
#include "igpt/ops/neighbourhood.h"

namespace igpt {
namespace {

constexpr int64_t kLargest = int64_t{1} << 20;  // of any one option: keeps every product of two of them in range

void check_range(const char* name, int64_t value, int64_t largest = kLargest) {
  if (value < 1 || value > largest)
    throw UsageError("--" + std::string(name) + " " + std::to_string(value) + ": must be from 1 to " +
                     std::to_string(largest));
}

}  // namespace

const Architecture& find_architecture(const std::string& name) {
  std::string names;
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return architecture;
    names += (names.empty() ? "" : " or ") + std::string(architecture.name);
  }
  throw UsageError("--arch " + name + ": must be " + names);
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
  find_architecture(options.arch);
  check_range("neighbours", options.neighbours, ops::kMostNeighbours);
  check_range("embed_dim", options.embed_dim);
  check_range("num_heads", options.num_heads);
  check_range("num_layers", options.num_layers, 1024);
  check_range("num_pixels", options.num_pixels, 1024);
  check_range("num_vocab", options.num_vocab);
  check_range("num_classes", options.num_classes);
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

std::vector<ParameterShape> parameter_shapes(const ImageGPTOptions& options) {
  const int64_t d = options.embed_dim;
  std::vector<ParameterShape> shapes;
  if (options.is_2d())
    shapes = {{"token_embeddings.weight", {options.neighbours * (options.num_vocab + 1), d}},
              {"row_embeddings.weight", {options.num_pixels, d}},
              {"column_embeddings.weight", {options.num_pixels, d}}};
  else
    shapes = {{"sos", {d}},
              {"token_embeddings.weight", {options.num_vocab, d}},
              {"position_embeddings.weight", {options.sequence_length(), d}}};
  for (int64_t i = 0; i < options.num_layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    const std::vector<ParameterShape> block{{"ln_1.weight", {d}},
                                            {"ln_1.bias", {d}},
                                            {"ln_2.weight", {d}},
                                            {"ln_2.bias", {d}},
                                            {"attn.in_proj_weight", {3 * d, d}},
                                            {"attn.in_proj_bias", {3 * d}},
                                            {"attn.out_proj.weight", {d, d}},
                                            {"attn.out_proj.bias", {d}},
                                            {"mlp.0.weight", {4 * d, d}},
                                            {"mlp.0.bias", {4 * d}},
                                            {"mlp.2.weight", {d, 4 * d}},
                                            {"mlp.2.bias", {d}}};
    for (const auto& [name, sizes] : block) shapes.push_back({layer + name, sizes});
  }
  const std::vector<ParameterShape> ending{{"ln_f.weight", {d}},
                                           {"ln_f.bias", {d}},
                                           {"head.weight", {options.num_vocab, d}},
                                           {"clf_head.weight", {options.num_classes, d}},
                                           {"clf_head.bias", {options.num_classes}}};
  shapes.insert(shapes.end(), ending.begin(), ending.end());
  return shapes;
}

}  // namespace igpt
