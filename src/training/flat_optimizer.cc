#include "igpt/training/flat_optimizer.h"

#include "igpt/error.h"
#include "igpt/model/flat_parameters.h"

namespace igpt::training {
namespace {

using torch::Tensor;

std::vector<Tensor> copies_of(const Tensor& flat, const std::vector<ops::Parameter>& parameters) {
  std::vector<Tensor> copies;
  for (const auto& view : views_of(flat.cpu(), parameters)) copies.push_back(view.clone());
  return copies;
}

void load(const Tensor& flat, const std::vector<ops::Parameter>& parameters, const std::vector<Tensor>& moments) {
  if (moments.size() != parameters.size())
    throw InputError("the optimizer's state has " + std::to_string(moments.size()) + " parameters, the model " +
                     std::to_string(parameters.size()));
  const auto views = views_of(flat, parameters);
  for (size_t i = 0; i < views.size(); ++i) {
    if (views[i].sizes() != moments[i].sizes())
      throw InputError("the optimizer's state of " + parameters[i].name + " has another shape than it");
    views[i].copy_(moments[i]);
  }
}

}  // namespace

FlatOptimizer::FlatOptimizer(const Tensor& weights, const std::vector<ops::Parameter>& parameters,
                             const Adam::Options& options, const std::vector<ops::Matrix>& matrices)
    : parameters_(parameters),
      muon_and_adam_(ops::split_by_matrices(parameters, matrices)),
      reduced_(torch::zeros({weights.numel() + kMessage}, weights.options())),
      buffers_{weights, reduced_.narrow(0, 0, weights.numel()), torch::zeros_like(weights), torch::zeros_like(weights)},
      adam_(buffers_, of_adam(), options) {
  if (!matrices.empty()) muon_.emplace(buffers_, matrices, options.weight_decay);
}

void FlatOptimizer::zero_grad() {
  gradients().zero_();
}

Tensor FlatOptimizer::clip_grad_norm(double largest) {
  torch::NoGradGuard no_grad;
  const auto norm = gradients().norm();
  gradients().mul_((largest / (norm + 1e-6)).clamp_max(1.0));
  return norm;
}

void FlatOptimizer::step(double learning_rate, double momentum) {
  remember_rates(learning_rate, momentum);
  adam_.step(learning_rate);
  if (muon_) muon_->step(learning_rate, momentum);
}

void FlatOptimizer::remember_rates(double learning_rate, double momentum) {
  if (initial_learning_rate_ == 0) initial_learning_rate_ = learning_rate;
  learning_rate_ = learning_rate;
  momentum_ = momentum;
}

OptimizerState FlatOptimizer::state() const {
  OptimizerState state;
  state.step = static_cast<int64_t>(updates().item<double>());
  state.exp_avg = copies_of(buffers_.exp_avg, of_adam());
  state.exp_avg_sq = copies_of(buffers_.exp_avg_sq, of_adam());
  state.momentum_buffer = copies_of(buffers_.exp_avg, of_muon());
  state.learning_rate = learning_rate_;
  state.initial_learning_rate = initial_learning_rate_;
  state.beta1 = adam_.options().beta1;
  state.beta2 = adam_.options().beta2;
  state.eps = adam_.options().eps;
  state.weight_decay = adam_.options().weight_decay;
  state.momentum = momentum_;
  return state;
}

void FlatOptimizer::load_state(const OptimizerState& state) {
  torch::NoGradGuard no_grad;
  load(buffers_.exp_avg, of_adam(), state.exp_avg);
  load(buffers_.exp_avg_sq, of_adam(), state.exp_avg_sq);
  load(buffers_.exp_avg, of_muon(), state.momentum_buffer);
  updates().fill_(static_cast<double>(state.step));
  learning_rate_ = state.learning_rate;
  initial_learning_rate_ = state.initial_learning_rate;
  momentum_ = state.momentum;
}

void FlatOptimizer::load_weights(const std::vector<Tensor>& weights) {
  torch::NoGradGuard no_grad;
  const auto views = views_of(buffers_.weights, parameters_);
  for (size_t i = 0; i < weights.size(); ++i) views[i].copy_(weights[i]);
}

}  // namespace igpt::training
