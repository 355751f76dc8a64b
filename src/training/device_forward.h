#pragma once

#include <functional>
#include <memory>

#include "igpt/training/scoring.h"
#include "src/ops/device_kernels.h"

namespace igpt::training {

/// A small model's forward pass as one piece of work that the device repeats (on CUDA a graph), on batches of
/// options.batch_size images. The first in a process is compared with LibTorch's; on a difference, and whenever the
/// device's kernels throw, options.note is told once, and nothing is computed here from then on.
class DeviceForward {
 public:
  DeviceForward(const ops::ChosenKernels& chosen, const ImageGPTImpl& model, c10::Device device,
                const ScoringOptions& options);

  /// x (B, S) uint8 on the device, B up to the batch size -> nats per image (B) float64 or, of a classifier, logits (B,
  /// C). Undefined where it could not be computed. `by_libtorch` computes the same.
  torch::Tensor run(const torch::Tensor& x, const std::function<torch::Tensor()>& by_libtorch);

 private:
  torch::Tensor computed(const torch::Tensor& x);
  void start();

  ops::ChosenKernels chosen_;
  c10::Device device_;
  const ScoringOptions& options_;
  torch::Tensor weights_;  // (P): a copy
  torch::Tensor tokens_;   // (batch size, S)
  torch::Tensor result_;   // (batch size) float64 or (batch size, C)
  std::unique_ptr<ops::DeviceWork> work_;
};

}  // namespace igpt::training
