#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "igpt/hooks.h"
#include "igpt/sampling/draw.h"

namespace igpt::sampling {

struct CompletionOptions {
  std::string checkpoint;
  std::string test_x = "data/test_x.npy", test_y = "data/test_y.npy";
  int64_t num_examples = 5;      ///< images to complete, random by the seed
  std::vector<int64_t> indices;  ///< these images instead
  int64_t num_samples = 5;       ///< of each image
  /// Of the samples of an image, in turn; for a model that has a start token for each class, which takes the image's
  /// own label from test_y where this is empty.
  std::vector<int64_t> classes;
  std::optional<int64_t> context_rows;  ///< pixel rows that are given; half of them if not given
  ops::SamplingOptions sampling;
  std::string output = "figure.png";
  std::string tokens;              ///< .npy for the samples, (N, h, w); empty: none
  double scale = 1;                ///< of each image in the figure, nearest neighbour
  std::string precision = "fp32";  ///< fp32, or bf16: see generate
  std::string device = "auto";
  int64_t threads = 0;
};

struct CompletionResult {
  std::vector<int64_t> indices;  ///< of the images
  int64_t context_rows = 0;
};

/// Completes test images as `sample` does: writes the figure, a row for each image, and the samples' tokens. On a stop
/// signal it throws igpt::Interrupted.
CompletionResult complete(const CompletionOptions& options, const Hooks& hooks);

}  // namespace igpt::sampling
