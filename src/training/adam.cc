#include "igpt/training/adam.h"

namespace igpt::training {

using torch::Tensor;

Adam::Adam(const Tensor& weights, const Tensor& gradients, const std::vector<ops::Parameter>& parameters,
           const Options& options)
    : options_(options) {
  int64_t count = 0;
  for (const auto& parameter : parameters) count += parameter.count();
  exp_avg_ = torch::zeros({count}, weights.options());
  exp_avg_sq_ = torch::zeros({count}, weights.options());
  step_ = torch::zeros({}, weights.options());
  for (size_t i = 0, first = 0; i < parameters.size(); ++i) {
    const int64_t begin = parameters[first].offset, end = parameters[i].offset + parameters[i].count();
    if (i + 1 < parameters.size() && parameters[i + 1].offset == end) continue;
    first = i + 1;
    const int64_t place = exp_avgs_.empty() ? 0 : exp_avgs_.back().storage_offset() + exp_avgs_.back().numel();
    weights_.push_back(weights.narrow(0, begin, end - begin));
    gradients_.push_back(gradients.narrow(0, begin, end - begin));
    exp_avgs_.push_back(exp_avg_.narrow(0, place, end - begin));
    exp_avg_sqs_.push_back(exp_avg_sq_.narrow(0, place, end - begin));
    steps_.push_back(step_);
  }
}

void Adam::step(double learning_rate) {
  torch::NoGradGuard no_grad;
  step_ += 1;
  at::_fused_adamw_(weights_, gradients_, exp_avgs_, exp_avg_sqs_, /*max_exp_avg_sqs=*/{}, steps_, learning_rate,
                    options_.beta1, options_.beta2, options_.weight_decay, options_.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

}  // namespace igpt::training
