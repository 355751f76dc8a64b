#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/libtorch.h"
#include "igpt/ops/model_shape.h"
#include "igpt/training/adam.h"
#include "igpt/training/muon.h"

namespace igpt::training {

/// Updates all parameters of a model, which lie in one flat buffer, by Adam, or the matrices among them by Muon.
/// Another flat buffer holds the gradients: clipping takes a single norm, and data parallel training a single
/// reduction.
class FlatOptimizer {
 public:
  /// `weights` (P) are updated in place: floating, contiguous, with a place for each of `parameters`. Muon takes the
  /// `matrices`; none: Adam takes all. Both have the options' weight decay.
  FlatOptimizer(const torch::Tensor& weights, const std::vector<ops::Parameter>& parameters,
                const Adam::Options& options, const std::vector<ops::Matrix>& matrices = {});

  void zero_grad();

  /// Scales the gradients down to a common norm of at most `largest` (Pascanu et al. 2013); returns the norm before, on
  /// the device, a scalar.
  torch::Tensor clip_grad_norm(double largest);

  /// `momentum` is Muon's.
  void step(double learning_rate, double momentum = 0);

  /// An update with these has been computed elsewhere, on the buffers below.
  void remember_rates(double learning_rate, double momentum);

  const OptimizerBuffers& buffers() const { return buffers_; }
  const torch::Tensor& weights() const { return buffers_.weights; }      ///< (P): all parameters
  const torch::Tensor& gradients() const { return buffers_.gradients; }  ///< (P): all of them
  const torch::Tensor& updates() const { return adam_.updates(); }       ///< float scalar: how many there were

  /// (P + kMessage): the gradients, and behind them a message between the ranks that the same reduction carries.
  const torch::Tensor& reduced() const { return reduced_; }
  torch::Tensor message() const { return reduced_.narrow(0, weights().numel(), kMessage); }  ///< (kMessage)
  static constexpr int64_t kMessage = 8;

  OptimizerState state() const;                  ///< copies on the CPU
  void load_state(const OptimizerState& state);  ///< throws igpt::InputError when its shapes are not the parameters'
  /// Sets the parameters, given in their order and shapes; none: they stay.
  void load_weights(const std::vector<torch::Tensor>& weights);

 private:
  const std::vector<ops::Parameter>& of_muon() const { return muon_and_adam_.first; }
  const std::vector<ops::Parameter>& of_adam() const { return muon_and_adam_.second; }

  std::vector<ops::Parameter> parameters_;
  std::pair<std::vector<ops::Parameter>, std::vector<ops::Parameter>> muon_and_adam_;  // what each of them updates
  torch::Tensor reduced_;                                                              // (P + kMessage)
  OptimizerBuffers buffers_;                                                           // the gradients in reduced_
  Adam adam_;
  std::optional<Muon> muon_;
  double learning_rate_ = 0, initial_learning_rate_ = 0, momentum_ = 0;
};

}  // namespace igpt::training
