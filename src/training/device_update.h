#pragma once

#include <memory>

#include "src/training/host_update.h"

namespace igpt::training {

/// Updates of small models as work that the device repeats (on CUDA a graph): data set, batches and counters are
/// resident, so that no part of an update waits for the CPU. Of several processes, and with Muon where a matrix does
/// not fit the device's shared memory, only the gradients are computed so; the host applies them.
class DeviceUpdate final : public HostUpdate {
 public:
  /// Null where the backend has no such work.
  static std::unique_ptr<DeviceUpdate> make(const TrainOptions& options, const UpdateState& state,
                                            backend::Backend& backend);

  void compute_gradients(int64_t step) override;
  void run(int64_t step) override;
  bool loss_is_at_hand() const override { return false; }

 private:
  DeviceUpdate(const TrainOptions& options, const UpdateState& state, backend::Backend& backend);

  void plan(int64_t step);
  void repeat(int64_t step);

  torch::Tensor planned_images_;   // (U, accumulate, B) int64
  torch::Tensor rates_, momenta_;  // (U) float: learning rates, Muon's momenta
  torch::Tensor next_;             // (2) int64: where in the plan the device is
  int64_t planned_from_ = 0, planned_to_ = 0;
  const bool has_muon_, is_whole_;  // of the updates
  std::unique_ptr<backend::DeviceWork> work_;
  bool recorded_ = false;
};

}  // namespace igpt::training
