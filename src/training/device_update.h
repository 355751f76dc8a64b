#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/ops/device_kernels.h"
#include "update.h"

namespace igpt::training {

/// Updates of small models as one piece of work that the device repeats (on CUDA a graph): data set, batches and
/// counters are resident, so that nothing of an update waits for the CPU. Of several processes it computes the
/// gradients alone, which are reduced before they are applied.
///
/// The first update is computed by EagerUpdate, too: on a difference of loss, gradients or of what Adam makes of them,
/// and whenever the device's kernels throw, `hooks.note` is told once, and from then on there are no such updates.
class DeviceUpdate {
 public:
  /// Null where the device has no kernels for the model, the data set or the precision.
  static std::unique_ptr<DeviceUpdate> make(const TrainOptions& options, const UpdateState& state, EagerUpdate& eager,
                                            const Hooks& hooks);

  /// Does what EagerUpdate does for update `step`: its gradients and, in a process that is alone, all of it. False:
  /// nothing has changed, and it remains to be done.
  bool run(int64_t step);

 private:
  DeviceUpdate(const TrainOptions& options, const UpdateState& state, EagerUpdate& eager, const Hooks& hooks,
               const ops::ChosenKernels& chosen);

  bool is_whole() const { return options_.launch.size == 1; }
  ops::cuda::Update arguments() const;
  void plan(int64_t step);
  std::string try_out(int64_t step);
  std::string difference_of_gradients(const torch::Tensor& expected, const torch::Tensor& expected_loss) const;
  std::string difference_of_update(const std::vector<torch::Tensor>& before,
                                   const std::vector<torch::Tensor>& ours) const;
  std::vector<torch::Tensor> changed() const;

  const TrainOptions options_;
  UpdateState state_;
  EagerUpdate& eager_;
  ops::Note note_;
  ops::ChosenKernels chosen_;
  BatchOrder order_;
  torch::Tensor chosen_images_;  // (U, accumulate, B) int64: the plan's images
  torch::Tensor rates_;          // (U) float: its learning rates
  torch::Tensor next_;           // (2) int64: where in it the device is
  int64_t planned_from_ = 0, planned_to_ = 0;
  std::unique_ptr<ops::DeviceWork> work_;
};

}  // namespace igpt::training
