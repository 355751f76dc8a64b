#pragma once

#include <memory>
#include <vector>

#include "igpt/libtorch.h"
#include "igpt/ops/kernel_choice.h"
#include "igpt/ops/model_shape.h"

namespace igpt::training {

/// Muon (Jordan et al. 2024) of some matrices in the flat buffers of all parameters: Nesterov's momentum,
/// orthogonalised by Newton-Schulz iterations and scaled to the RMS of Adam's updates, so that one learning rate serves
/// both. The weight decay is cautious: it acts only where the update, too, shrinks the weight.
class Muon {
 public:
  /// `weights` and `gradients` (P) have a place for each of `matrices`. With fused kernels, those on the CPU whose
  /// shorter side is at most 128 take a kernel of their own (src/ops/cpu/muon.h).
  Muon(const torch::Tensor& weights, const torch::Tensor& gradients, const std::vector<ops::Matrix>& matrices,
       double weight_decay, ops::Kernels kernels = ops::kernel_choice());

  void step(double learning_rate, double momentum);

  double weight_decay() const { return weight_decay_; }
  const torch::Tensor& momentum() const { return momentum_; }  ///< (n): matrix after matrix

 private:
  struct Short {
    ops::Matrix matrix;
    int64_t place;  // of its momentum
  };
  struct Workers;  // the kernel, and threads with what each needs for it
  struct Group {   // views (rows, columns) of matrices of one shape
    std::vector<torch::Tensor> weights, gradients, momentum;
  };
  void step_by_kernel(double learning_rate, double momentum);
  void step_by_libtorch(const Group& group, double learning_rate, double momentum) const;

  double weight_decay_;
  torch::Tensor weights_, gradients_;  // (P)
  torch::Tensor momentum_;             // (n)
  std::vector<Short> short_;           // what the kernel takes
  std::shared_ptr<Workers> workers_;
  std::vector<Group> groups_;  // the others
};

}  // namespace igpt::training
