#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "igpt/data/split.h"
#include "igpt/libtorch.h"

namespace igpt::training {

/// Images as palette indices on the device that trains.
struct TokenDataset {
  torch::Tensor tokens;  ///< (N, S) uint8, or int16 for a palette of more than 256 colours
  torch::Tensor labels;  ///< (N) int64; zeros where the split has none

  int64_t size() const { return tokens.size(0); }
  int64_t bytes() const { return static_cast<int64_t>(tokens.nbytes() + labels.nbytes()); }  ///< of memory
  /// The images at `indices` (B) int64, on any device, in this order.
  TokenDataset select(const torch::Tensor& indices) const;
  TokenDataset to(const torch::Device& device) const;
};

/// The images and labels of a split: they are taken out of it, so that no image is in memory twice.
TokenDataset make_token_dataset(data::Split& split);

/// A random 90/10 split: which images train, which validate. Depends on the seed and the number of images alone. Brings
/// the images of `dataset`, contiguous and on the CPU, into another order; both parts lie in its memory.
std::pair<TokenDataset, TokenDataset> split_for_validation(const TokenDataset& dataset, int64_t seed);

/// The order in which a training reads its images: each epoch a new permutation, one after the other without a gap, so
/// that every batch is full and a place is one number.
class BatchOrder {
 public:
  BatchOrder(int64_t size, int64_t seed) : size_(size), seed_(seed) {}

  /// The `batch_size` images from `position` (images read since the start of the training) on: (B) int64, CPU.
  torch::Tensor batch(int64_t position, int64_t batch_size);

 private:
  int64_t size_, seed_;
  int64_t epoch_ = -1;  // of permutation_
  std::vector<int64_t> permutation_;
};

}  // namespace igpt::training
