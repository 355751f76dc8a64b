#pragma once

#include "igpt/libtorch.h"

namespace igpt::probe {

/// Multinomial logistic regression with an L2 penalty, by L-BFGS in float64. Features of a layer may depend on each
/// other almost linearly, where L-BFGS would take thousands of steps; it gets the weights of their principal
/// components, scaled to similar second derivatives, which does not change the minimum.
class LogisticRegression {
 public:
  /// x (N, D), with means of zero, and y (N) int64 in [0, C): what fit() minimises the loss of.
  LogisticRegression(const torch::Tensor& x, const torch::Tensor& y, int64_t classes);

  /// Minimises the mean cross-entropy plus penalty / 2 times the sum of the squared weights, the biases not among them,
  /// from where an earlier fit ended.
  void fit(double penalty);

  torch::Tensor logits(const torch::Tensor& x) const;  ///< of any images' features (N, D): (N, C) float64

 private:
  torch::Tensor variances_, components_;    // (D), (D, D), a column for each
  torch::Tensor x_, y_, weights_, biases_;  // (N, D), (N), (C, D), (C), of the components
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
