#pragma once

#include <memory>
#include <vector>

#include "igpt/libtorch.h"
#include "igpt/ops/kernel_choice.h"
#include "igpt/ops/model_shape.h"
#include "igpt/training/adam.h"

namespace igpt::training {

/// Muon (Jordan et al. 2024) of some matrices in the flat buffers of all parameters: Nesterov's momentum,
/// orthogonalised by Newton-Schulz iterations and scaled to the RMS of Adam's updates, so that one learning rate serves
/// both. The weight decay is cautious: it acts only where the update, too, shrinks the weight.
class Muon {
 public:
  /// Updates `matrices`, which have their places in the buffers. With fused kernels, those on the CPU whose shorter
  /// side is at most 128 take a kernel of their own (src/ops/cpu/muon.h).
  Muon(const OptimizerBuffers& buffers, const std::vector<ops::Matrix>& matrices, double weight_decay,
       ops::Kernels kernels = ops::kernel_choice());

  void step(double learning_rate, double momentum);

  /// Bytes that a step takes for a while, at most: all `matrices` as float32, by LibTorch's operations.
  static int64_t bytes_of_step(const std::vector<ops::Matrix>& matrices, double weight_decay);

 private:
  struct Workers;  // the kernel, and threads with what each needs for it
  struct Group {   // views (rows, columns) of matrices of one shape
    std::vector<torch::Tensor> weights, gradients, momentum;
  };
  void step_by_kernel(double learning_rate, double momentum);
  void step_by_libtorch(const Group& group, double learning_rate, double momentum) const;

  double weight_decay_;
  OptimizerBuffers buffers_;
  std::vector<ops::Matrix> short_;  // what the kernel takes
  std::shared_ptr<Workers> workers_;
  std::vector<Group> groups_;  // the others
};

}  // namespace igpt::training
