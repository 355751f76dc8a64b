#include "igpt/training/adam.h"

namespace igpt::training {

using torch::Tensor;

Adam::Adam(const Tensor& weights, const Tensor& gradients, const std::vector<ops::Parameter>& parameters,
           const Options& options)
    : options_(options), weights_(weights), gradients_(gradients) {
  int64_t count = 0;
  for (const auto& parameter : parameters) count += parameter.count();
  exp_avg_ = torch::zeros({count}, weights.options());
  exp_avg_sq_ = torch::zeros({count}, weights.options());
  step_ = torch::zeros({}, weights.options());
  if (count == weights.numel()) return;
  std::vector<Tensor> places;
  for (const auto& parameter : parameters)
    places.push_back(torch::arange(parameter.offset, parameter.offset + parameter.count(), torch::kInt64));
  places_ = torch::cat(places).to(weights.device());
}

void Adam::step(double learning_rate) {
  const torch::NoGradGuard no_grad;
  step_ += 1;
  // A call for each range of its parameters would wake all threads for each, which takes longer than the update.
  const bool some = places_.defined();
  const auto weights = some ? weights_.index_select(0, places_) : weights_;        // (n)
  const auto gradients = some ? gradients_.index_select(0, places_) : gradients_;  // (n)
  at::_fused_adamw_({weights}, {gradients}, {exp_avg_}, {exp_avg_sq_}, /*max_exp_avg_sqs=*/{}, {step_}, learning_rate,
                    options_.beta1, options_.beta2, options_.weight_decay, options_.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
  if (some) weights_.index_copy_(0, places_, weights);
}

}  // namespace igpt::training
