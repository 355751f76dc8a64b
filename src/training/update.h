#pragma once

#include <optional>
#include <vector>

#include "igpt/hooks.h"
#include "igpt/model/fused_model.h"
#include "igpt/training/flat_adam.h"
#include "igpt/training/options.h"
#include "igpt/training/token_dataset.h"
#include "igpt/training/weight_average.h"

namespace igpt::training {

/// What an update reads and changes, all on the training's device. The optimizer and the average outlive it.
struct UpdateState {
  ImageGPT model;
  TokenDataset images;     ///< to train on
  FlatAdam* adam;          ///< of the model's parameters
  WeightAverage* average;  ///< null: none
  torch::Tensor loss;      ///< float64 scalar: this process's part of the sum over the update's batches
  torch::Tensor loss_sum;  ///< float64 scalar: of the updates since the last row of metrics.csv
};

/// The images of update `step`'s batch `i` that this process computes, in the order of the training.
struct BatchPlace {
  int64_t position = 0;  ///< images read before the first of them since the start of the training
  int64_t size = 0;
};
BatchPlace place_of_batch(const TrainOptions& options, int64_t step, int64_t i);

/// One update after the other by LibTorch's operations or, for small models on the CPU, the fused kernels.
class EagerUpdate {
 public:
  EagerUpdate(const TrainOptions& options, const UpdateState& state, const Hooks& hooks);

  /// Of update `step` (0, 1, ...): what this process's share of its batches contributes to the gradients, and the loss.
  void compute_gradients(int64_t step);

  /// Clips the gradients, lets Adam make its step and the average and the loss' sum take it in.
  void apply(int64_t step);

  const char* kernels() const { return fused_ ? fused_->vectors() : nullptr; }  ///< of our own, null for LibTorch's

 private:
  TokenDataset next_batch(const BatchPlace& place);
  void add_gradients(const TokenDataset& images, double share);
  double add_fused_gradients(const TokenDataset& batch, double scale);
  torch::Tensor loss_of(const TokenDataset& batch);

  const TrainOptions options_;
  UpdateState state_;
  std::vector<torch::Tensor> parameters_;
  BatchOrder order_;
  std::optional<FusedModel> fused_;
};

}  // namespace igpt::training
