#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "igpt/formats/image.h"
#include "igpt/hooks.h"
#include "igpt/sampling/draw.h"

namespace igpt::sampling {

struct CompletionOptions {
  std::string checkpoint;
  std::string test_x = "data/test_x.npy", test_y = "data/test_y.npy";
  std::vector<std::string> images;  ///< PNG or JPEG files to complete in place of test images
  bool unconditional = false;       ///< draw num_examples x num_samples images from nothing
  int64_t num_examples = 5;         ///< images to complete, random by the seed
  std::vector<int64_t> indices;     ///< these images instead
  int64_t num_samples = 5;          ///< of each image
  /// For a model that has a start token for each class: of the samples of an image, in turn, or of the rows of images
  /// that are drawn from nothing. Where this is empty, a test image has its own label, from test_y, and the rows all
  /// classes.
  std::vector<int64_t> classes;
  std::optional<int64_t> context_rows;  ///< pixel rows that are given; half of them if not given
  ops::SamplingOptions sampling;
  std::string output = "figure.png";
  std::string tokens;              ///< .npy for the samples, (N, h, w); empty: none
  double scale = 4;                ///< of each image in the figure, nearest neighbour
  std::string precision = "fp32";  ///< fp32, or bf16: see generate
  std::string device = "auto";
  int64_t threads = 0;
};

struct CompletionResult {
  std::vector<int64_t> indices;  ///< of the test images that were completed
  std::vector<int64_t> classes;  ///< of the samples, where the model has a start token for each
  int64_t context_rows = 0;
  formats::Image figure;  ///< as it was written, but not enlarged
  int64_t side = 0;       ///< of each image in it, pixels
};

/// Completes images as `sample` does: writes the figure, a row for each image, and the samples' tokens. Images drawn
/// from nothing are those that `gif` draws with the same seed. On a stop signal it throws igpt::Interrupted.
CompletionResult complete(const CompletionOptions& options, const Hooks& hooks);

}  // namespace igpt::sampling
