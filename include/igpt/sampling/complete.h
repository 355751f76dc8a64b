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
  std::string test_x = "data/test_x.npy";
  int64_t num_examples = 5;             ///< images to complete, random by the seed
  std::vector<int64_t> indices;         ///< these images instead
  int64_t num_samples = 5;              ///< of each image
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
