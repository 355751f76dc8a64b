#pragma once

#include <vector>

#include "igpt/libtorch.h"
#include "igpt/ops/model_shape.h"

namespace igpt::training {

/// Adam (Kingma and Ba 2015), as torch.optim.Adam computes it, of some parameters in the flat buffers of all: a single
/// call for an update. A weight decay is AdamW's (Loshchilov and Hutter 2019, algorithm 2).
class Adam {
 public:
  struct Options {
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  };

  /// `weights` and `gradients` (P) have a place for each of `parameters`.
  Adam(const torch::Tensor& weights, const torch::Tensor& gradients, const std::vector<ops::Parameter>& parameters,
       const Options& options);

  void step(double learning_rate);

  const Options& options() const { return options_; }
  const torch::Tensor& exp_avg() const { return exp_avg_; }        ///< (n): its parameters' first moment
  const torch::Tensor& exp_avg_sq() const { return exp_avg_sq_; }  ///< (n): and the second
  const torch::Tensor& updates() const { return step_; }           ///< float scalar: how many there were

 private:
  Options options_;
  torch::Tensor weights_, gradients_;   // (P)
  torch::Tensor places_;                // (n) int64, of its parameters' numbers in these; undefined: all, n = P
  torch::Tensor exp_avg_, exp_avg_sq_;  // (n): parameter after parameter
  torch::Tensor step_;                  // float scalar, as the fused kernel wants it
};

}  // namespace igpt::training
