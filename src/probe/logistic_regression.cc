#include "src/probe/logistic_regression.h"

#include <torch/optim/lbfgs.h>

#include <tuple>

namespace igpt::probe {

using torch::Tensor;

LogisticRegression::LogisticRegression(const Tensor& x, const Tensor& y, int64_t classes) : y_(y) {
  const Tensor features = x.to(torch::kFloat64);
  std::tie(variances_, components_) = torch::linalg_eigh(features.t().mm(features) / static_cast<double>(x.size(0)));
  variances_ = variances_.clamp_min(0);
  x_ = features.mm(components_);
  weights_ = torch::zeros({classes, x_.size(1)}, x_.options());
  biases_ = torch::zeros({classes}, x_.options());
}

void LogisticRegression::fit(double penalty) {
  // The second derivative of the loss by a weight is about a tenth of the component's variance, and the penalty.
  const Tensor scale = (0.1 * variances_ + penalty).rsqrt();
  const torch::AutoGradMode with_gradients(true);
  const Tensor scaled = (weights_ / scale).requires_grad_(), biases = biases_.requires_grad_();
  torch::optim::LBFGS optimizer({scaled, biases}, torch::optim::LBFGSOptions(1)
                                                      .max_iter(500)
                                                      .history_size(20)
                                                      .tolerance_grad(1e-6)
                                                      .tolerance_change(1e-11)
                                                      .line_search_fn("strong_wolfe"));
  optimizer.step([&] {
    optimizer.zero_grad();
    const Tensor weights = scaled * scale;
    const auto loss = torch::nn::functional::cross_entropy(torch::linear(x_, weights, biases), y_) +
                      0.5 * penalty * weights.square().sum();
    loss.backward();
    return loss;
  });
  weights_ = (scaled * scale).detach();
  biases_ = biases.detach();
}

Tensor LogisticRegression::logits(const Tensor& x) const {
  return torch::linear(x.to(torch::kFloat64).mm(components_), weights_, biases_);
}

Standardisation::Standardisation(const Tensor& x) : mean_(x.mean(0)) {
  const auto deviation = x.std(0, /*unbiased=*/false);
  scale_ = torch::where(deviation > 1e-6 * (mean_.abs() + 1e-6), 1 / deviation, torch::zeros_like(deviation));
}

}  // namespace igpt::probe
