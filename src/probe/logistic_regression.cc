#include "src/probe/logistic_regression.h"

#include <torch/optim/lbfgs.h>

namespace igpt::probe {

using torch::Tensor;

LogisticRegression::LogisticRegression(const Tensor& x, const Tensor& y, int64_t classes) : y_(y) {
  constexpr double kRounding = 1e-10;  // of the largest variance: a component with less is rounding of float32
  const Tensor features = x.to(torch::kFloat64);
  const auto [variances, components] =
      torch::linalg_eigh(features.t().mm(features) / static_cast<double>(x.size(0)));  // ascending
  const Tensor kept = variances > kRounding * variances.max();
  to_components_ = components.index({torch::indexing::Slice(), kept}) / variances.index({kept}).sqrt();
  x_ = features.mm(to_components_);
  weights_ = torch::zeros({classes, x_.size(1)}, x_.options().requires_grad(true));
  biases_ = torch::zeros({classes}, x_.options().requires_grad(true));
}

void LogisticRegression::fit(double penalty) {
  const torch::AutoGradMode with_gradients(true);
  torch::optim::LBFGS optimizer({weights_, biases_}, torch::optim::LBFGSOptions(1)
                                                         .max_iter(500)
                                                         .history_size(10)
                                                         .tolerance_grad(1e-6)
                                                         .tolerance_change(1e-10)
                                                         .line_search_fn("strong_wolfe"));
  const Tensor to_features = to_components_.t();
  optimizer.step([&] {
    optimizer.zero_grad();
    const auto loss = torch::nn::functional::cross_entropy(torch::linear(x_, weights_, biases_), y_) +
                      0.5 * penalty * weights_.mm(to_features).square().sum();
    loss.backward();
    return loss;
  });
}

Tensor LogisticRegression::logits(const Tensor& x) const {
  const torch::NoGradGuard no_gradients;
  return torch::linear(x.to(torch::kFloat64).mm(to_components_), weights_, biases_);
}

Standardisation::Standardisation(const Tensor& x) : mean_(x.mean(0)) {
  const auto deviation = x.std(0, /*unbiased=*/false);
  scale_ = torch::where(deviation > 1e-6 * (mean_.abs() + 1e-6), 1 / deviation, torch::zeros_like(deviation));
}

}  // namespace igpt::probe
