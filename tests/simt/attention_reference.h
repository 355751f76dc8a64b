#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace igpt::ops::cuda::testing {

/// What is expected of an array and, for how well its elements can be known, the sum of each element's terms without
/// their signs: where the softmax saturates, gradients are small differences of large terms.
struct Expected {
  std::vector<double> values, terms;

  explicit Expected(size_t size) : values(size), terms(size) {}
  void add(int at, double term, double magnitude) {
    values[static_cast<size_t>(at)] += term;
    terms[static_cast<size_t>(at)] += std::fabs(magnitude);
  }
};

/// Causal attention of one head in double precision, written for reading. Arrays are (S, d).
struct HeadReference {
  Expected out, dq, dk, dv;
  std::vector<double> log_sum_exp;

  template <class Vector>
  HeadReference(const Vector& q, const Vector& k, const Vector& v, const Vector& d_out, int length, int dim,
                double scale)
      : out(q.size()), dq(q.size()), dk(q.size()), dv(q.size()), log_sum_exp(static_cast<size_t>(length)) {
    std::vector<double> p(static_cast<size_t>(length));
    for (int i = 0; i < length; ++i) {
      double largest = -INFINITY, sum = 0, delta = 0;
      for (int j = 0; j <= i; ++j) largest = std::max(largest, p[j] = scale * dot(&q[i * dim], &k[j * dim], dim));
      for (int j = 0; j <= i; ++j) sum += p[j] = std::exp(p[j] - largest);
      log_sum_exp[i] = (largest + std::log(sum)) / std::log(2.0);
      for (int j = 0; j <= i; ++j) {
        p[j] /= sum;
        for (int d = 0; d < dim; ++d) out.add(i * dim + d, p[j] * v[j * dim + d], p[j] * v[j * dim + d]);
      }
      delta = dot(&out.values[i * dim], &d_out[i * dim], dim);
      for (int j = 0; j <= i; ++j) {
        const double dp = dot(&d_out[i * dim], &v[j * dim], dim), ds = p[j] * (dp - delta) * scale;
        const double ds_terms = p[j] * (std::fabs(dp) + std::fabs(delta)) * scale;
        for (int d = 0; d < dim; ++d) {
          dq.add(i * dim + d, ds * k[j * dim + d], ds_terms * k[j * dim + d]);
          dk.add(j * dim + d, ds * q[i * dim + d], ds_terms * q[i * dim + d]);
          dv.add(j * dim + d, p[j] * d_out[i * dim + d], p[j] * d_out[i * dim + d]);
        }
      }
    }
  }

 private:
  template <class A, class B>
  static double dot(const A* a, const B* b, int dim) {
    double sum = 0;
    for (int d = 0; d < dim; ++d) sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
    return sum;
  }
};

}  // namespace igpt::ops::cuda::testing
