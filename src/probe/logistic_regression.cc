#include "src/probe/logistic_regression.h"

#include <torch/optim/lbfgs.h>

namespace igpt::probe {

using torch::Tensor;

LogisticRegression::LogisticRegression(int64_t features, int64_t classes)
    : weights_(torch::zeros({classes, features}, torch::requires_grad())),
      biases_(torch::zeros({classes}, torch::requires_grad())) {}

void LogisticRegression::fit(const Tensor& x, const Tensor& y, double penalty) {
  const torch::AutoGradMode with_gradients(true);
  torch::optim::LBFGS optimizer({weights_, biases_}, torch::optim::LBFGSOptions(1)
                                                         .max_iter(200)
                                                         .history_size(10)
                                                         .tolerance_grad(1e-5)
                                                         .tolerance_change(1e-9)
                                                         .line_search_fn("strong_wolfe"));
  optimizer.step([&] {
    optimizer.zero_grad();
    const auto loss = torch::nn::functional::cross_entropy(torch::linear(x, weights_, biases_), y) +
                      0.5 * penalty * weights_.square().sum();
    loss.backward();
    return loss;
  });
}

Tensor LogisticRegression::logits(const Tensor& x) const {
  const torch::NoGradGuard no_gradients;
  return torch::linear(x, weights_, biases_);
}

Standardisation::Standardisation(const Tensor& x) : mean_(x.mean(0)) {
  const auto deviation = x.std(0, /*unbiased=*/false);
  scale_ = torch::where(deviation > 1e-6 * (mean_.abs() + 1e-6), 1 / deviation, torch::zeros_like(deviation));
}

}  // namespace igpt::probe
