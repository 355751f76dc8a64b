#pragma once

#include <memory>

#include "igpt/backend/backend.h"
#include "igpt/training/ema.h"
#include "igpt/training/flat_optimizer.h"
#include "igpt/training/token_dataset.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

/// What an update reads and changes, all on the training's device.
struct UpdateState {
  TokenDataset images;  ///< to train on
  FlatOptimizer* optimizer;
  Ema* ema;                ///< null: none
  torch::Tensor loss;      ///< float64 scalar: this process's part of the sum over the update's batches
  torch::Tensor loss_sum;  ///< float64 scalar: of the updates since the last row of metrics.csv
};

/// The images of update `step`'s batch `i` that this process computes, in the order of the training.
struct BatchPlace {
  int64_t position = 0;  ///< images read before the first of them since the start of the training
  int64_t size = 0;
};
BatchPlace place_of_batch(const TrainOptions& options, int64_t step, int64_t i);

/// Updates one after the other, of which the host controls each part: batches, gradients, optimizer, average.
class HostUpdate {
 public:
  /// The backend, the optimizer and the average must outlive it.
  HostUpdate(const TrainOptions& options, const UpdateState& state, backend::Backend& backend);
  HostUpdate(const HostUpdate&) = delete;
  HostUpdate& operator=(const HostUpdate&) = delete;
  virtual ~HostUpdate() = default;

  /// What this process's share of the batches of update `step` (0, 1, ...) contributes to the gradients and the loss.
  virtual void compute_gradients(int64_t step);

  /// Clips the gradients, makes the optimizer's step, and takes it into the average and the loss into its sum.
  void apply(int64_t step);

  /// Both, in a process that trains alone.
  virtual void run(int64_t step);

  /// Whether the loss is at hand after each update; elsewhere reading it waits for the device.
  virtual bool loss_is_at_hand() const { return state_.loss.device().is_cpu(); }

 protected:
  const TrainOptions options_;
  UpdateState state_;
  BatchOrder order_;

 private:
  TokenDataset next_batch(const BatchPlace& place);

  backend::Backend& backend_;
  backend::Objective objective_;
};

/// The updates of a training: on the device as a whole where the backend can (DeviceUpdate), else by the host.
std::unique_ptr<HostUpdate> make_update(const TrainOptions& options, const UpdateState& state,
                                        backend::Backend& backend);

}  // namespace igpt::training
