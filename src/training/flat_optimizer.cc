#include "igpt/training/flat_optimizer.h"

#include "igpt/error.h"
#include "igpt/model/flat_parameters.h"

namespace igpt::training {
namespace {

using torch::Tensor;

// Views of `flat`, which holds some parameters and nothing between them.
std::vector<Tensor> views_of_some(const Tensor& flat, std::vector<ops::Parameter> parameters) {
  int64_t place = 0;
  for (auto& parameter : parameters) {
    parameter.offset = place;
    place += parameter.count();
  }
  return views_of(flat, parameters);
}

std::vector<Tensor> copies_of_some(const Tensor& flat, const std::vector<ops::Parameter>& parameters) {
  std::vector<Tensor> copies;
  for (const auto& view : views_of_some(flat.cpu(), parameters)) copies.push_back(view.clone());
  return copies;
}

void load_some(const Tensor& flat, const std::vector<ops::Parameter>& parameters, const std::vector<Tensor>& moments) {
  if (moments.size() != parameters.size())
    throw InputError("the optimizer's state has " + std::to_string(moments.size()) + " parameters, the model " +
                     std::to_string(parameters.size()));
  const auto views = views_of_some(flat, parameters);
  for (size_t i = 0; i < views.size(); ++i) {
    if (views[i].sizes() != moments[i].sizes())
      throw InputError("the optimizer's state of " + parameters[i].name + " has another shape than it");
    views[i].copy_(moments[i]);
  }
}

}  // namespace

FlatOptimizer::FlatOptimizer(Tensor weights, const std::vector<ops::Parameter>& parameters,
                             const Adam::Options& options, const std::vector<ops::Matrix>& matrices)
    : parameters_(parameters),
      of_muon_(ops::split_by_matrices(parameters, matrices).first),
      of_adam_(ops::split_by_matrices(parameters, matrices).second),
      weights_(std::move(weights)),
      reduced_(torch::zeros({weights_.numel() + kMessage}, weights_.options())),
      gradients_(reduced_.narrow(0, 0, weights_.numel())),
      adam_(weights_, gradients_, of_adam_, options) {
  if (!matrices.empty()) muon_.emplace(weights_, gradients_, matrices, options.weight_decay);
}

void FlatOptimizer::zero_grad() {
  gradients_.zero_();
}

Tensor FlatOptimizer::clip_grad_norm(double largest) {
  torch::NoGradGuard no_grad;
  const auto norm = gradients_.norm();
  gradients_.mul_((largest / (norm + 1e-6)).clamp_max(1.0));
  return norm;
}

void FlatOptimizer::step(double learning_rate, double momentum) {
  remember_learning_rate(learning_rate);
  adam_.step(learning_rate);
  if (muon_) muon_->step(learning_rate, momentum);
  momentum_ = momentum;
}

void FlatOptimizer::remember_learning_rate(double learning_rate) {
  if (initial_learning_rate_ == 0) initial_learning_rate_ = learning_rate;
  learning_rate_ = learning_rate;
}

std::vector<Tensor> FlatOptimizer::buffers() const {
  std::vector<Tensor> result{weights_, adam_.exp_avg(), adam_.exp_avg_sq()};
  if (muon_) result.push_back(muon_->momentum());
  return result;
}

OptimizerState FlatOptimizer::state() const {
  OptimizerState state;
  state.step = static_cast<int64_t>(adam_.updates().item<double>());
  state.exp_avg = copies_of_some(adam_.exp_avg(), of_adam_);
  state.exp_avg_sq = copies_of_some(adam_.exp_avg_sq(), of_adam_);
  if (muon_) state.momentum_buffer = copies_of_some(muon_->momentum(), of_muon_);
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
  load_some(adam_.exp_avg(), of_adam_, state.exp_avg);
  load_some(adam_.exp_avg_sq(), of_adam_, state.exp_avg_sq);
  load_some(muon_ ? muon_->momentum() : Tensor(), of_muon_, state.momentum_buffer);
  adam_.updates().fill_(static_cast<double>(state.step));
  learning_rate_ = state.learning_rate;
  initial_learning_rate_ = state.initial_learning_rate;
  momentum_ = state.momentum;
}

void FlatOptimizer::load_weights(const std::vector<Tensor>& weights) {
  torch::NoGradGuard no_grad;
  const auto views = views_of(weights_, parameters_);
  for (size_t i = 0; i < weights.size(); ++i) views[i].copy_(weights[i]);
}

}  // namespace igpt::training
