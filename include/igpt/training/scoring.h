#pragma once

#include <functional>
#include <string>

#include "igpt/model/image_gpt.h"
#include "igpt/training/token_dataset.h"

namespace igpt::training {

struct Score {
  int64_t count = 0;  ///< images
  double loss = 0;    ///< mean: nats per pixel, or per label of a classifier
  /// Share of the images whose label has the largest logit of a classifier or, with likeliest_class, gives the image
  /// the highest likelihood.
  double accuracy = 0;
};

struct ScoringOptions {
  bool classify = false;
  bool likeliest_class = false;  ///< of a model with a start token for each class: in C passes
  int64_t batch_size = 64;
  bool bf16 = false;
  /// Called after each batch with the number of images done; what it throws ends the work.
  std::function<void(int64_t done)> progress;
  /// Called with each batch's nats per image (B) float64 or, of a classifier, logits (B, C).
  std::function<void(const torch::Tensor& batch)> per_image;
  /// Called with each batch's nats per pixel (B, S) float32, which a generative model's nats are then the sums of.
  std::function<void(const torch::Tensor& batch)> per_pixel;
  /// Told in one line why bf16 was asked for and is not used.
  std::function<void(const std::string& line)> note;
};

/// The model's loss over a dataset on the model's device, without gradients.
Score score(ImageGPT model, const TokenDataset& dataset, const ScoringOptions& options);

}  // namespace igpt::training
