#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "igpt/hooks.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

struct EvaluateOptions {
  std::string checkpoint;
  std::optional<bool> classify;  ///< not given: as the checkpoint was trained
  std::string per_image;         ///< .npy for each image's nats, float64 (N), or a classifier's logits (N, C)
  std::string figure;            ///< .png or .svg for the likeliest and least likely images and a map of the nats
  std::optional<int64_t> limit;  ///< first images only
  int64_t batch_size = 64;
  std::string precision = "fp32";
  std::string test_x = DataFiles{}.test_x, test_y = DataFiles{}.test_y;
  std::string device = "auto";
  int64_t threads = 0;
};

struct EvaluateResult {
  int64_t count = 0;                   ///< images
  double loss = 0;                     ///< nats per pixel, or per label of a classifier
  std::optional<double> bits_per_dim;  ///< loss / ln 2, of the generative model
  std::optional<double> accuracy;      ///< of a classifier, or of the likeliest class of a conditional model
};

/// Loss of a checkpoint over the test images.
EvaluateResult evaluate(const EvaluateOptions& options, const Hooks& hooks);

}  // namespace igpt::training
