#pragma once

#include "igpt/libtorch.h"

namespace igpt::probe {

/// Multinomial logistic regression with an L2 penalty, by L-BFGS.
class LogisticRegression {
 public:
  LogisticRegression(int64_t features, int64_t classes);

  /// Minimises the mean cross-entropy of x (N, D) against y (N) int64 in [0, C) plus penalty / 2 times the sum of the
  /// squared weights, the biases not among them, from where an earlier fit ended. All float32.
  void fit(const torch::Tensor& x, const torch::Tensor& y, double penalty);

  torch::Tensor logits(const torch::Tensor& x) const;  ///< (N, C)

 private:
  torch::Tensor weights_, biases_;  // (C, D), (C)
};

/// Features with mean 0 and variance 1 over the images that it was made from; one that is constant there becomes 0.
class Standardisation {
 public:
  explicit Standardisation(const torch::Tensor& x);  ///< (N, D)
  torch::Tensor apply(const torch::Tensor& x) const { return (x - mean_) * scale_; }

 private:
  torch::Tensor mean_, scale_;  // (D)
};

}  // namespace igpt::probe
