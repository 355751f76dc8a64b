#include "igpt/training/flat_adam.h"

#include "igpt/error.h"
#include "igpt/model/flat_parameters.h"

namespace igpt::training {

using torch::Tensor;

FlatAdam::FlatAdam(Tensor weights, std::vector<ops::Parameter> parameters, Options options)
    : options_(options), parameters_(std::move(parameters)), weights_(std::move(weights)) {
  reduced_ = torch::zeros({weights_.numel() + kMessage}, weights_.options());
  gradients_ = reduced_.narrow(0, 0, weights_.numel());
  exp_avg_ = torch::zeros_like(weights_);
  exp_avg_sq_ = torch::zeros_like(weights_);
  step_ = torch::zeros({}, weights_.options());
}

void FlatAdam::zero_grad() {
  gradients_.zero_();
}

Tensor FlatAdam::clip_grad_norm(double largest) {
  torch::NoGradGuard no_grad;
  const auto norm = gradients_.norm();
  gradients_.mul_((largest / (norm + 1e-6)).clamp_max(1.0));
  return norm;
}

void FlatAdam::step(double learning_rate) {
  torch::NoGradGuard no_grad;
  remember_learning_rate(learning_rate);
  step_ += 1;
  at::_fused_adamw_({weights_}, {gradients_}, {exp_avg_}, {exp_avg_sq_}, /*max_exp_avg_sqs=*/{}, {step_}, learning_rate,
                    options_.beta1, options_.beta2, options_.weight_decay, options_.eps, /*amsgrad=*/false,
                    /*maximize=*/false);
}

void FlatAdam::remember_learning_rate(double learning_rate) {
  if (initial_learning_rate_ == 0) initial_learning_rate_ = learning_rate;
  learning_rate_ = learning_rate;
}

AdamState FlatAdam::state() const {
  AdamState state;
  state.step = static_cast<int64_t>(step_.item<double>());
  for (const auto& moment : views_of(exp_avg_.cpu(), parameters_)) state.exp_avg.push_back(moment.clone());
  for (const auto& moment : views_of(exp_avg_sq_.cpu(), parameters_)) state.exp_avg_sq.push_back(moment.clone());
  state.learning_rate = learning_rate_;
  state.initial_learning_rate = initial_learning_rate_;
  state.beta1 = options_.beta1;
  state.beta2 = options_.beta2;
  state.eps = options_.eps;
  state.weight_decay = options_.weight_decay;
  return state;
}

void FlatAdam::load_state(const AdamState& state) {
  torch::NoGradGuard no_grad;
  const auto load = [&](const Tensor& flat, const std::vector<Tensor>& moments) {
    if (moments.size() != parameters_.size())
      throw InputError("the optimizer's state has " + std::to_string(moments.size()) + " parameters, the model " +
                       std::to_string(parameters_.size()));
    const auto views = views_of(flat, parameters_);
    for (size_t i = 0; i < views.size(); ++i) {
      if (views[i].sizes() != moments[i].sizes())
        throw InputError("the optimizer's state of parameter " + std::to_string(i) + " has another shape than it");
      views[i].copy_(moments[i]);
    }
  };
  load(exp_avg_, state.exp_avg);
  load(exp_avg_sq_, state.exp_avg_sq);
  step_.fill_(static_cast<double>(state.step));
  learning_rate_ = state.learning_rate;
  initial_learning_rate_ = state.initial_learning_rate;
}

void FlatAdam::load_weights(const std::vector<Tensor>& weights) {
  torch::NoGradGuard no_grad;
  const auto views = views_of(weights_, parameters_);
  for (size_t i = 0; i < weights.size(); ++i) views[i].copy_(weights[i]);
}

}  // namespace igpt::training
