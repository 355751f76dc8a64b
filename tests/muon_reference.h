#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

namespace igpt::testing {

/// Muon of one matrix as its paper has it (Jordan et al. 2024), with a cautious weight decay, in double precision.
struct MuonReference {
  using Matrix = std::vector<double>;  // row by row

  size_t rows, columns;
  Matrix weights, momentum = Matrix(weights.size());

  template <class Gradient>
  void step(const Gradient& gradient, double learning_rate, double beta, double weight_decay) {
    Matrix x(weights.size());
    double square = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const auto g = static_cast<double>(gradient[i]);
      momentum[i] = beta * momentum[i] + (1 - beta) * g;
      x[i] = beta * momentum[i] + (1 - beta) * g;
      square += x[i] * x[i];
    }
    for (double& entry : x) entry /= std::sqrt(square) + 1e-7;
    size_t s = rows, l = columns;
    if (rows > columns) x = transposed(x, s, l), std::swap(s, l);
    for (int i = 0; i < 5; ++i) {
      const Matrix a = product(x, transposed(x, s, l), s, l, s), aa = product(a, a, s, s, s);
      Matrix b(a.size());
      for (size_t j = 0; j < b.size(); ++j) b[j] = -4.7750 * a[j] + 2.0315 * aa[j];
      const Matrix bx = product(b, x, s, s, l);
      for (size_t j = 0; j < x.size(); ++j) x[j] = 3.4445 * x[j] + bx[j];
    }
    if (rows > columns) x = transposed(x, s, l);
    for (size_t i = 0; i < x.size(); ++i) {
      if (x[i] * weights[i] > 0) weights[i] *= 1 - learning_rate * weight_decay;
      weights[i] -= learning_rate * 0.2 * std::sqrt(static_cast<double>(l)) * x[i];
    }
  }

 private:
  static Matrix transposed(const Matrix& m, size_t m_rows, size_t m_columns) {
    Matrix result(m.size());
    for (size_t i = 0; i < m_rows; ++i)
      for (size_t j = 0; j < m_columns; ++j) result[j * m_rows + i] = m[i * m_columns + j];
    return result;
  }
  static Matrix product(const Matrix& a, const Matrix& b, size_t m, size_t inner, size_t n) {
    Matrix result(m * n);
    for (size_t i = 0; i < m; ++i)
      for (size_t k = 0; k < inner; ++k)
        for (size_t j = 0; j < n; ++j) result[i * n + j] += a[i * inner + k] * b[k * n + j];
    return result;
  }
};

}  // namespace igpt::testing
