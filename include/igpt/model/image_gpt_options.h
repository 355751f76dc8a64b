#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "igpt/fields.h"
#include "igpt/ops/model_shape.h"
#include "igpt/ops/neighbourhood.h"

namespace igpt {

constexpr const char* kOriginalArch = "image-gpt";
constexpr const char* k2dArch = "image-gpt-2d";
constexpr const char* kPaperArch = "igpt";

/// A named set of the properties of a model.
struct Architecture {
  const char* name;
  /// Sizes come from the options, and of a model with neighbours their number, table_rank and conv_taps.
  ops::ModelShape properties;
};

/// All of them. A new architecture is a line here.
inline constexpr Architecture kArchitectures[] = {
    {kOriginalArch, {}},
    {k2dArch, {.neighbours = 12, .pre_norm = true, .final_norm = true}},
    {kPaperArch,
     {.pre_norm = true,
      .final_norm = true,
      .rms_norm = true,
      .quick_gelu = true,
      .classifier_bias = false,
      .paper_initial_values = true}},
};

/// The names of those that `has` accepts.
template <class Has>
std::vector<std::string> architecture_names(const Has& has) {
  std::vector<std::string> names;
  for (const Architecture& architecture : kArchitectures)
    if (has(architecture)) names.push_back(architecture.name);
  return names;
}
inline std::vector<std::string> architecture_names() {
  return architecture_names([](const Architecture&) { return true; });
}

/// Throws igpt::UsageError, which lists the names that there are.
const Architecture& find_architecture(const std::string& name);

constexpr int64_t kLargestVocab = 32'768;           ///< tokens have at most two bytes
constexpr int64_t kMostClasses = int64_t{1} << 20;  ///< of a classifier

/// A model's configuration. The names of its fields are those of the options and of the hyper-parameters in
/// checkpoints.
struct ImageGPTOptions {
  std::string arch = kOriginalArch;
  int64_t embed_dim = 16;  ///< D
  int64_t num_heads = 2;   ///< H, divides D
  int64_t num_layers = 8;
  int64_t num_pixels = 28;         ///< side of an image; S = num_pixels^2
  int64_t num_vocab = 16;          ///< V, entries of the palette
  int64_t num_classes = 10;        ///< C
  int64_t neighbours = 12;         ///< K, where the architecture embeds them
  int64_t table_rank = 0;          ///< R of their tables (ops::ModelShape)
  int64_t conv_taps = 0;           ///< M of the blocks' convolutions (ops::ModelShape)
  bool conditional = false;        ///< each class has a start token
  std::optional<bool> final_norm;  ///< whether ln_f is applied; not given: as the architecture has it
  /// The classifier reads what predicts the pixels, which begins with sos and lacks the last pixel (Chen et al. 2020);
  /// otherwise, as Hugging Face's do, the pixels themselves.
  bool shifted_classifier = true;
  int64_t channels = 1;          ///< of the palette: 1 grey, 3 RGB
  std::vector<uint8_t> palette;  ///< (V, channels); empty: V evenly spaced greys
  std::vector<float> centroids;  ///< (V, channels) in [0, 1] that the palette was rounded from; empty: none

  int64_t sequence_length() const { return num_pixels * num_pixels; }
  int64_t head_dim() const { return embed_dim / num_heads; }
  bool operator==(const ImageGPTOptions&) const = default;
};

/// See igpt/fields.h. Not declared is what comes from the data set or the checkpoint: the palette, final_norm,
/// shifted_classifier.
template <class Visit>
void for_each_field(ImageGPTOptions& model, const Visit& visit) {
  constexpr Attributes kModel{.group = "Model"}, kOriginals{.group = "Model", .in_every_checkpoint = true};
  constexpr int64_t kLargest = int64_t{1} << 20;  // the product of any two still fits an int64_t
  visit("arch", model.arch, "the original's model, one that embeds rows, columns and neighbours, or the paper's",
        kModel, one_of(architecture_names()));
  visit("neighbours", model.neighbours, "neighbouring pixels that image-gpt-2d embeds", kModel,
        between(1, ops::kMostNeighbours));
  visit("table_rank", model.table_rank,
        "rank of the neighbours' tables, which are then projections of one table of tokens; 0: each is a table of its "
        "own",
        kModel, between(0, 1024));
  visit("conv_taps", model.conv_taps,
        "neighbouring pixels whose features each MLP of image-gpt-2d reads, too, as a convolution; 0: none", kModel,
        between(0, ops::kMostNeighbours));
  visit("embed_dim", model.embed_dim, "width D", kOriginals, between(1, kLargest));
  visit("num_heads", model.num_heads, "attention heads; they divide the width", kOriginals, between(1, kLargest));
  visit("num_layers", model.num_layers, "blocks", kOriginals, between(1, 1024));
  visit("num_pixels", model.num_pixels, "side of an image", kOriginals, between(1, 1024));
  visit("num_vocab", model.num_vocab, "colours of the palette", kOriginals, between(2, kLargestVocab));
  visit("num_classes", model.num_classes, "classes of the labels", kModel, between(1, kMostClasses));
  visit("conditional", model.conditional, "learn a start token for each class, so that images of a class can be drawn",
        kModel);
}

/// Throws igpt::UsageError that names the option when a value is out of range or two contradict each other.
void check(const ImageGPTOptions& options);

/// The sizes and properties of the model. Throws igpt::UsageError where the architecture is not known.
ops::ModelShape shape_of(const ImageGPTOptions& options);

}  // namespace igpt
