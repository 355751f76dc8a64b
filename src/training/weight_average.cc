#include "igpt/training/weight_average.h"

#include <algorithm>

#include "igpt/ops/flat_parameters.h"

namespace igpt::training {

WeightAverage::WeightAverage(const ImageGPT& model, double decay)
    : model_(std::dynamic_pointer_cast<ImageGPTImpl>(model->clone())), decay_(decay) {
  average_ = ops::flatten_in_place(model_->parameters());
}

void WeightAverage::add(const torch::Tensor& weights, int64_t update) {
  torch::NoGradGuard no_grad;
  const auto n = static_cast<double>(update);
  average_.lerp_(weights, 1 - std::min(decay_, (1 + n) / (10 + n)));
}

}  // namespace igpt::training
