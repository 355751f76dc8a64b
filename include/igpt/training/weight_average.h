#pragma once

#include "igpt/libtorch.h"
#include "igpt/model/image_gpt.h"

namespace igpt::training {

/// An exponential moving average of a model's weights (Polyak and Juditsky 1992, Acceleration of stochastic
/// approximation by averaging): a second model, better than the first while the learning rate is high, and no worse
/// after it has fallen.
class WeightAverage {
 public:
  /// Starts from the weights of `model`, on its device. `decay` in [0, 1): the share that an update keeps, of which
  /// early updates keep less, (1 + n) / (10 + n) after n of them.
  WeightAverage(const ImageGPT& model, double decay);

  /// Takes in the weights (P), in the order of ImageGPT::parameters(), after update number `update` (1, 2, ...).
  void add(const torch::Tensor& weights, int64_t update);

  const ImageGPT& model() const { return model_; }
  const torch::Tensor& weights() const { return average_; }  ///< (P)

 private:
  ImageGPT model_;
  torch::Tensor average_;  // (P): the model's parameters are views of it
  double decay_;
};

}  // namespace igpt::training
