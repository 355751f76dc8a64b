#pragma once

#include <string>
#include <utility>
#include <vector>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/libtorch.h"
#include "igpt/ops/model_shape.h"

namespace igpt::training {

/// Adam (Kingma and Ba 2015), as torch.optim.Adam computes it, over one flat buffer that holds all parameters and one
/// that holds all gradients: an update is a single call, clipping a single norm, and data parallel training needs a
/// single reduction. A weight decay is AdamW's (Loshchilov and Hutter 2019, algorithm 2).
class FlatAdam {
 public:
  struct Options {
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  };

  /// `weights` (P) are updated in place: floating, contiguous, with a place for each of `parameters`.
  FlatAdam(torch::Tensor weights, std::vector<ops::Parameter> parameters, Options options);

  void zero_grad();

  /// Scales the gradients down to a common norm of at most `largest` (Pascanu et al. 2013); returns the norm before, on
  /// the device, a scalar.
  torch::Tensor clip_grad_norm(double largest);

  void step(double learning_rate);

  /// An update with this rate has been computed elsewhere, on the buffers below, updates() among them.
  void remember_learning_rate(double learning_rate);

  const torch::Tensor& weights() const { return weights_; }        ///< (P): all parameters
  const torch::Tensor& gradients() const { return gradients_; }    ///< (P): all of them
  const torch::Tensor& exp_avg() const { return exp_avg_; }        ///< (P): Adam's first moment
  const torch::Tensor& exp_avg_sq() const { return exp_avg_sq_; }  ///< (P): and the second
  const torch::Tensor& updates() const { return step_; }           ///< float scalar: how many there were

  /// (P + kMessage): the gradients, and behind them a message between the ranks that the same reduction carries.
  const torch::Tensor& reduced() const { return reduced_; }
  torch::Tensor message() const { return reduced_.narrow(0, gradients_.numel(), kMessage); }  ///< (kMessage)
  static constexpr int64_t kMessage = 8;

  AdamState state() const;                  ///< copies on the CPU
  void load_state(const AdamState& state);  ///< throws igpt::InputError when the shapes are not those of the parameters
  /// Sets the parameters, given in their order and shapes; none: they stay.
  void load_weights(const std::vector<torch::Tensor>& weights);

 private:
  Options options_;
  std::vector<ops::Parameter> parameters_;
  torch::Tensor weights_, gradients_, exp_avg_, exp_avg_sq_;  // (P) each
  torch::Tensor reduced_;                                     // (P + kMessage)
  torch::Tensor step_;                                        // float scalar, as the fused kernel wants it
  double learning_rate_ = 0, initial_learning_rate_ = 0;
};

}  // namespace igpt::training
