#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "igpt/ops/model_shape.h"

namespace igpt {

constexpr const char* kOriginalArch = "image-gpt";
constexpr const char* k2dArch = "image-gpt-2d";

/// A named set of the properties of a model (ops::ModelShape). A new one is a line of kArchitectures.
struct Architecture {
  const char* name;
  bool neighbours;  ///< embeds a position as its row, its column and the pixels before it (--neighbours)
  bool pre_norm, final_norm;
};

inline constexpr Architecture kArchitectures[] = {
    {kOriginalArch, /*neighbours=*/false, /*pre_norm=*/false, /*final_norm=*/false},
    {k2dArch, /*neighbours=*/true, /*pre_norm=*/true, /*final_norm=*/true},
};

/// Throws igpt::UsageError, which lists the names that there are.
const Architecture& find_architecture(const std::string& name);

/// A model's configuration. Field names are the option names and the hyper-parameters in checkpoints.
struct ImageGPTOptions {
  std::string arch = kOriginalArch;
  int64_t embed_dim = 16;  ///< D
  int64_t num_heads = 2;   ///< H, divides D
  int64_t num_layers = 8;
  int64_t num_pixels = 28;         ///< side of an image; S = num_pixels^2
  int64_t num_vocab = 16;          ///< V, entries of the palette
  int64_t num_classes = 10;        ///< C
  int64_t neighbours = 12;         ///< K, pixels whose embeddings a position of image-gpt-2d adds up
  std::optional<bool> final_norm;  ///< whether ln_f is applied; not given: as the architecture has it
  int64_t channels = 1;            ///< of the palette: 1 grey, 3 RGB
  std::vector<uint8_t> palette;    ///< (V, channels); empty: V evenly spaced greys
  std::vector<float> centroids;    ///< (V, channels) in [0, 1] that the palette was rounded from; empty: none

  int64_t sequence_length() const { return num_pixels * num_pixels; }
  int64_t head_dim() const { return embed_dim / num_heads; }
  bool is_2d() const { return arch == k2dArch; }
  bool applies_final_norm() const { return final_norm.value_or(is_2d()); }
  bool operator==(const ImageGPTOptions&) const = default;
};

/// Throws igpt::UsageError that names the option when a value is out of range or two contradict each other.
void check(const ImageGPTOptions& options);

/// The sizes and properties of the model. Throws igpt::UsageError where the architecture is not known.
ops::ModelShape shape_of(const ImageGPTOptions& options);

struct ParameterShape {
  std::string name;  ///< as in the state dict, without `gpt.`
  std::vector<int64_t> sizes;
};

/// Every parameter of the model, in the order of ImageGPT::named_parameters(), without making any.
std::vector<ParameterShape> parameter_shapes(const ImageGPTOptions& options);

}  // namespace igpt
