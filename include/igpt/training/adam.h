#pragma once

#include <vector>

#include "igpt/libtorch.h"
#include "igpt/ops/kernel_choice.h"
#include "igpt/ops/model_shape.h"

namespace igpt::training {

/// What optimizers read and write: (P) each, with the same offsets.
struct OptimizerBuffers {
  torch::Tensor weights, gradients;
  torch::Tensor exp_avg;     ///< the first moment; of Muon's matrices its momentum
  torch::Tensor exp_avg_sq;  ///< the second moment; of Muon's matrices not used
};

/// Adam (Kingma and Ba 2015), as torch.optim.Adam computes it, of some parameters in the flat buffers of all. A weight
/// decay is AdamW's (Loshchilov and Hutter 2019, algorithm 2).
class Adam {
 public:
  struct Options {
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  };

  /// Updates `parameters`, which have their places in the buffers. With fused kernels, a plain loop does where they are
  /// few, float and on the CPU.
  Adam(const OptimizerBuffers& buffers, const std::vector<ops::Parameter>& parameters, const Options& options,
       ops::Kernels kernels = ops::kernel_choice());

  void step(double learning_rate);

  const Options& options() const { return options_; }
  const torch::Tensor& updates() const { return updates_; }  ///< float scalar on their device: how many there were

 private:
  Options options_;
  torch::Tensor updates_;  // float scalar, as LibTorch's kernel wants it
  bool is_small_ = false;  // whether the plain loop does
  // Views of each range of parameters without a gap, in the order of the ranges.
  std::vector<torch::Tensor> weights_, gradients_, exp_avg_, exp_avg_sq_;
};

}  // namespace igpt::training
