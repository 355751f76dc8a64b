#pragma once

#include "igpt/libtorch.h"
#include "igpt/model/image_gpt.h"

namespace igpt::training {

/// An exponential moving average of a model's weights (Polyak and Juditsky 1992, Acceleration of stochastic
/// approximation by averaging): a second model, better than the first while the learning rate is high, and no worse
/// after it has fallen.
class Ema {
 public:
  /// Starts from the weights of `model`, on its device. `decay` in [0, 1): the share that an update keeps. Early
  /// updates keep less, (1 + n) / (10 + n) after n of them.
  Ema(const ImageGPT& model, double decay);

  /// Takes in the weights (P) after update number `update` (1, 2, ...).
  void add(const torch::Tensor& weights, int64_t update);

  double decay() const { return decay_; }
  const ImageGPT& model() const { return model_; }
  const torch::Tensor& weights() const { return weights_; }  ///< (P): the averages, those of model()

 private:
  ImageGPT model_;
  torch::Tensor weights_;
  double decay_;
};

}  // namespace igpt::training
