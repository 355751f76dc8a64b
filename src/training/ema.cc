#include "igpt/training/ema.h"

#include <algorithm>

namespace igpt::training {

Ema::Ema(const ImageGPT& model, double decay)
    : model_(std::dynamic_pointer_cast<ImageGPTImpl>(model->clone())), weights_(model_->weights()), decay_(decay) {}

void Ema::add(const torch::Tensor& weights, int64_t update) {
  torch::NoGradGuard no_grad;
  const auto n = static_cast<double>(update);
  weights_.lerp_(weights, 1 - std::min(decay_, (1 + n) / (10 + n)));
}

}  // namespace igpt::training
