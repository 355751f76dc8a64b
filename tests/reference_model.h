#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "igpt/ops/model_shape.h"

namespace igpt::testing {

/// Image GPT and its gradients written out in double precision, for one image: what the kernels are held to. Parameters
/// are one flat vector in the order of ops::ParameterTable.
class ReferenceModel {
 public:
  using Vector = std::vector<double>;

  ReferenceModel(const ops::ModelShape& shape, Vector weights) : s_(shape), weights_(std::move(weights)) {}

  struct Result {
    Vector logits;     ///< (S, V), or (C) with a label
    double nats = 0;   ///< of the image
    Vector gradients;  ///< of nats
  };

  /// Cross-entropy of the tokens or, with a label, of the class. `start`: of a model with a start token for each class,
  /// that of the image.
  Result run(std::span<const uint8_t> tokens, int64_t label = -1, int64_t start = 0) const;

 private:
  struct Matrix {                               // of the flat vector: (rows, columns)
    int64_t offset = 0, rows = 0, columns = 0;  // no rows: the model lacks it
  };
  struct Block {
    Matrix ln_1_weight, ln_1_bias, ln_2_weight, ln_2_bias, in, in_bias, out, out_bias, up, up_bias, down, down_bias,
        conv;
  };
  struct Parameters {
    Matrix sos, tokens, positions, rows, columns, ln_f_weight, ln_f_bias, head, clf_weight, clf_bias;
    std::vector<Block> blocks;
  };
  struct Norm {
    Vector normalised, inverse_sigma, out;
  };
  struct Saved {
    Norm ln_1, ln_2;
    Vector qkv, probabilities, attended, convolved, hidden, activated;
  };

  /// With table_rank: as the model whose tables are the products, and back.
  Result run_with_products(std::span<const uint8_t> tokens, int64_t label, int64_t start) const;
  Parameters parameters() const;
  double weight(const Matrix& m, int64_t row, int64_t column) const {
    return weights_[static_cast<size_t>(m.offset + row * m.columns + column)];
  }

  Norm norm(const Vector& x, const Matrix& gain, const Matrix& bias) const;
  Vector norm_backward(const Norm& norm, const Matrix& gain, const Matrix& bias, const Vector& d, Vector& g) const;
  Vector linear(const Vector& x, const Matrix& w, const Matrix* bias) const;
  Vector linear_backward(const Vector& x, const Matrix& w, const Matrix* bias, const Vector& d, Vector& g) const;
  void attention(Saved& saved) const;
  Vector attention_backward(const Saved& saved, const Vector& d_attended) const;
  /// visit(tap, feature, place of the position that reads, place of the one that it sees) in (S, D).
  template <class Visit>
  void for_each_tap(const Visit& visit) const;
  Vector block(const Block& b, const Vector& x, Saved& saved) const;
  Vector block_backward(const Block& b, const Saved& saved, const Vector& d, Vector& g) const;
  /// The entries of the flat vector that a position's input is the sum of: the first of D each.
  std::vector<int64_t> embeddings(const Parameters& p, std::span<const uint8_t> tokens, int64_t start,
                                  int64_t position) const;
  static double cross_entropy(const double* logits, int64_t count, int64_t target, double* d);

  ops::ModelShape s_;
  Vector weights_;
};

namespace reference {

inline std::vector<double> sum(std::vector<double> a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

inline double normal_cdf(double x) {
  return 0.5 * std::erfc(-x / std::numbers::sqrt2);
}
inline double quick_sigmoid(double x) {
  return 1 / (1 + std::exp(-1.702 * x));
}
// How many rows above, and columns to the right of a pixel the k-th nearest of those before it is, by distance; of
// equals the lower, then the one on the left.
inline std::pair<int64_t, int64_t> nearest(int64_t k) {
  std::vector<std::array<int64_t, 3>> places;
  for (int64_t y = -9; y <= 0; ++y)
    for (int64_t x = -9; x <= (y < 0 ? 9 : -1); ++x) places.push_back({x * x + y * y, -y, x});
  std::sort(places.begin(), places.end());
  return {places[static_cast<size_t>(k)][1], places[static_cast<size_t>(k)][2]};
}
inline double normal_density(double x) {
  return std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
}

}  // namespace reference

inline ReferenceModel::Parameters ReferenceModel::parameters() const {
  const int64_t d = s_.embed_dim;
  int64_t used = 0;
  const auto take = [&used](int64_t rows, int64_t columns) {
    return Matrix{std::exchange(used, used + rows * columns), rows, columns};
  };
  const auto shift = [&] { return s_.rms_norm ? Matrix{} : take(1, d); };  // of a norm
  Parameters p;
  if (s_.conditional) p.sos = take(s_.num_classes, d);
  if (s_.is_plane()) {
    p.tokens = take(s_.neighbours * (s_.num_vocab + 1), d);
    p.rows = take(s_.side(), d);
    p.columns = take(s_.side(), d);
  } else {
    if (!s_.conditional) p.sos = take(1, d);
    p.tokens = take(s_.num_vocab, d);
    p.positions = take(s_.sequence_length, d);
  }
  for (int64_t l = 0; l < s_.num_layers; ++l)
    p.blocks.push_back({take(1, d), shift(), take(1, d), shift(), take(3 * d, d), take(1, 3 * d), take(d, d),
                        take(1, d), take(4 * d, d), take(1, 4 * d), take(d, 4 * d), take(1, d), take(s_.conv_taps, d)});
  p.ln_f_weight = take(1, d);
  p.ln_f_bias = shift();
  p.head = take(s_.num_vocab, d);
  p.clf_weight = take(s_.num_classes, d);
  if (s_.classifier_bias) p.clf_bias = take(1, s_.num_classes);
  return p;
}

inline ReferenceModel::Norm ReferenceModel::norm(const Vector& x, const Matrix& gain, const Matrix& bias) const {
  const auto d = static_cast<size_t>(s_.embed_dim);
  Norm n{x, Vector(x.size() / d), x};
  for (size_t row = 0; row < x.size(); row += d) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < d && !s_.rms_norm; ++i) mean += x[row + i] / static_cast<double>(d);
    for (size_t i = 0; i < d; ++i) variance += (x[row + i] - mean) * (x[row + i] - mean) / static_cast<double>(d);
    n.inverse_sigma[row / d] = 1 / std::sqrt(variance + 1e-5);
    for (size_t i = 0; i < d; ++i) {
      n.normalised[row + i] = (x[row + i] - mean) * n.inverse_sigma[row / d];
      n.out[row + i] = n.normalised[row + i] * weight(gain, 0, static_cast<int64_t>(i)) +
                       (s_.rms_norm ? 0 : weight(bias, 0, static_cast<int64_t>(i)));
    }
  }
  return n;
}

inline ReferenceModel::Vector ReferenceModel::norm_backward(const Norm& n, const Matrix& gain, const Matrix& bias,
                                                            const Vector& d_out, Vector& g) const {
  const auto d = static_cast<size_t>(s_.embed_dim);
  Vector dx(d_out.size());
  for (size_t row = 0; row < d_out.size(); row += d) {
    double mean = 0, along = 0;
    for (size_t i = 0; i < d; ++i) {
      const double h = n.normalised[row + i], dy = d_out[row + i];
      g[static_cast<size_t>(gain.offset) + i] += dy * h;
      if (!s_.rms_norm) g[static_cast<size_t>(bias.offset) + i] += dy;
      dx[row + i] = dy * weight(gain, 0, static_cast<int64_t>(i));
      if (!s_.rms_norm) mean += dx[row + i] / static_cast<double>(d);
      along += dx[row + i] * h / static_cast<double>(d);
    }
    for (size_t i = 0; i < d; ++i)
      dx[row + i] = n.inverse_sigma[row / d] * (dx[row + i] - mean - n.normalised[row + i] * along);
  }
  return dx;
}

// (S, columns) -> (S, rows)
inline ReferenceModel::Vector ReferenceModel::linear(const Vector& x, const Matrix& w, const Matrix* bias) const {
  const int64_t length = static_cast<int64_t>(x.size()) / w.columns;
  Vector y;
  for (int64_t t = 0; t < length; ++t)
    for (int64_t o = 0; o < w.rows; ++o) {
      double total = bias ? weight(*bias, 0, o) : 0;
      for (int64_t i = 0; i < w.columns; ++i) total += weight(w, o, i) * x[static_cast<size_t>(t * w.columns + i)];
      y.push_back(total);
    }
  return y;
}

inline ReferenceModel::Vector ReferenceModel::linear_backward(const Vector& x, const Matrix& w, const Matrix* bias,
                                                              const Vector& d, Vector& g) const {
  const int64_t length = static_cast<int64_t>(x.size()) / w.columns;
  Vector dx(x.size());
  for (int64_t t = 0; t < length; ++t)
    for (int64_t o = 0; o < w.rows; ++o) {
      const double dy = d[static_cast<size_t>(t * w.rows + o)];
      if (bias) g[static_cast<size_t>(bias->offset + o)] += dy;
      for (int64_t i = 0; i < w.columns; ++i) {
        const auto at = static_cast<size_t>(t * w.columns + i);
        g[static_cast<size_t>(w.offset + o * w.columns + i)] += dy * x[at];
        dx[at] += dy * weight(w, o, i);
      }
    }
  return dx;
}

inline void ReferenceModel::attention(Saved& saved) const {
  const int64_t length = s_.sequence_length, d = s_.embed_dim, width = s_.head_dim();
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  const Vector& qkv = saved.qkv;
  saved.probabilities.assign(static_cast<size_t>(s_.num_heads * length * length), 0);
  saved.attended.assign(static_cast<size_t>(length * d), 0);
  for (int64_t h = 0; h < s_.num_heads; ++h)
    for (int64_t t = 0; t < length; ++t) {
      double* const p = &saved.probabilities[static_cast<size_t>((h * length + t) * length)];
      double largest = -INFINITY, total = 0;
      for (int64_t j = 0; j <= t; ++j) {
        for (int64_t i = 0; i < width; ++i)
          p[j] += scale * qkv[static_cast<size_t>(t * 3 * d + h * width + i)] *
                  qkv[static_cast<size_t>(j * 3 * d + d + h * width + i)];
        largest = std::max(largest, p[j]);
      }
      for (int64_t j = 0; j <= t; ++j) total += p[j] = std::exp(p[j] - largest);
      for (int64_t j = 0; j <= t; ++j) {
        p[j] /= total;
        for (int64_t i = 0; i < width; ++i)
          saved.attended[static_cast<size_t>(t * d + h * width + i)] +=
              p[j] * qkv[static_cast<size_t>(j * 3 * d + 2 * d + h * width + i)];
      }
    }
}

inline ReferenceModel::Vector ReferenceModel::attention_backward(const Saved& saved, const Vector& d_attended) const {
  const int64_t length = s_.sequence_length, d = s_.embed_dim, width = s_.head_dim();
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  const Vector& qkv = saved.qkv;
  Vector d_qkv(qkv.size());
  for (int64_t h = 0; h < s_.num_heads; ++h)
    for (int64_t t = 0; t < length; ++t) {
      const double* const p = &saved.probabilities[static_cast<size_t>((h * length + t) * length)];
      Vector dp(static_cast<size_t>(t + 1));
      double delta = 0;
      for (int64_t j = 0; j <= t; ++j) {
        for (int64_t i = 0; i < width; ++i) {
          const auto v = static_cast<size_t>(j * 3 * d + 2 * d + h * width + i);
          const double d_o = d_attended[static_cast<size_t>(t * d + h * width + i)];
          dp[static_cast<size_t>(j)] += d_o * qkv[v];
          d_qkv[v] += d_o * p[j];
        }
        delta += p[j] * dp[static_cast<size_t>(j)];
      }
      for (int64_t j = 0; j <= t; ++j) {
        const double ds = scale * p[j] * (dp[static_cast<size_t>(j)] - delta);
        for (int64_t i = 0; i < width; ++i) {
          const auto q = static_cast<size_t>(t * 3 * d + h * width + i);
          const auto k = static_cast<size_t>(j * 3 * d + d + h * width + i);
          d_qkv[q] += ds * qkv[k];
          d_qkv[k] += ds * qkv[q];
        }
      }
    }
  return d_qkv;
}

template <class Visit>
void ReferenceModel::for_each_tap(const Visit& visit) const {
  const int64_t side = s_.side(), d = s_.embed_dim;
  for (int64_t k = 0; k < s_.conv_taps; ++k)
    for (int64_t t = 0; t < s_.sequence_length; ++t) {
      const auto [up, right] = reference::nearest(k);
      const int64_t y = t / side - up, x = t % side + right;
      if (y < 0 || x < 0 || x >= side) continue;
      for (int64_t i = 0; i < d; ++i)
        visit(k, i, static_cast<size_t>(t * d + i), static_cast<size_t>((y * side + x) * d + i));
    }
}

inline ReferenceModel::Vector ReferenceModel::block(const Block& b, const Vector& x, Saved& saved) const {
  saved.ln_1 = norm(x, b.ln_1_weight, b.ln_1_bias);
  saved.qkv = linear(saved.ln_1.out, b.in, &b.in_bias);
  attention(saved);
  const Vector attended = reference::sum(s_.pre_norm ? x : saved.ln_1.out, linear(saved.attended, b.out, &b.out_bias));
  saved.ln_2 = norm(attended, b.ln_2_weight, b.ln_2_bias);
  saved.convolved = saved.ln_2.out;
  for_each_tap([&](int64_t k, int64_t i, size_t reader, size_t seen) {
    saved.convolved[reader] += weight(b.conv, k, i) * saved.ln_2.out[seen];
  });
  saved.hidden = linear(saved.convolved, b.up, &b.up_bias);
  saved.activated = saved.hidden;
  for (double& a : saved.activated) a *= s_.quick_gelu ? reference::quick_sigmoid(a) : reference::normal_cdf(a);
  return reference::sum(attended, linear(saved.activated, b.down, &b.down_bias));
}

inline ReferenceModel::Vector ReferenceModel::block_backward(const Block& b, const Saved& saved, const Vector& d,
                                                             Vector& g) const {
  Vector d_hidden = linear_backward(saved.activated, b.down, &b.down_bias, d, g);
  for (size_t i = 0; i < d_hidden.size(); ++i) {
    const double a = saved.hidden[i];
    const double s = reference::quick_sigmoid(a);
    d_hidden[i] *=
        s_.quick_gelu ? s + 1.702 * a * s * (1 - s) : reference::normal_cdf(a) + a * reference::normal_density(a);
  }
  const Vector d_convolved = linear_backward(saved.convolved, b.up, &b.up_bias, d_hidden, g);
  Vector d_normed = d_convolved;
  for_each_tap([&](int64_t k, int64_t i, size_t reader, size_t seen) {
    g[static_cast<size_t>(b.conv.offset + k * s_.embed_dim + i)] += d_convolved[reader] * saved.ln_2.out[seen];
    d_normed[seen] += weight(b.conv, k, i) * d_convolved[reader];
  });
  const Vector d_attended = reference::sum(d, norm_backward(saved.ln_2, b.ln_2_weight, b.ln_2_bias, d_normed, g));
  const Vector d_heads = linear_backward(saved.attended, b.out, &b.out_bias, d_attended, g);
  const Vector d_ln_1 = linear_backward(saved.ln_1.out, b.in, &b.in_bias, attention_backward(saved, d_heads), g);
  if (s_.pre_norm) return reference::sum(d_attended, norm_backward(saved.ln_1, b.ln_1_weight, b.ln_1_bias, d_ln_1, g));
  return norm_backward(saved.ln_1, b.ln_1_weight, b.ln_1_bias, reference::sum(d_attended, d_ln_1), g);
}

inline std::vector<int64_t> ReferenceModel::embeddings(const Parameters& p, std::span<const uint8_t> tokens,
                                                       int64_t start, int64_t position) const {
  const int64_t d = s_.embed_dim;
  if (!s_.is_plane())
    return {position == 0 ? p.sos.offset + (s_.conditional ? start * d : 0)
                          : p.tokens.offset + tokens[static_cast<size_t>(position - 1)] * d,
            p.positions.offset + position * d};
  const int64_t side = s_.side(), row = position / side, column = position % side;
  std::vector<int64_t> result{p.rows.offset + row * d, p.columns.offset + column * d};
  for (int64_t k = 0; k < s_.neighbours; ++k) {
    const auto [up, right] = reference::nearest(k);
    const int64_t y = row - up, x = column + right;
    const bool inside = y >= 0 && x >= 0 && x < side;
    const int64_t token = inside ? tokens[static_cast<size_t>(y * side + x)] : s_.num_vocab;
    const bool is_start = s_.conditional && position == 0 && k == 0;
    result.push_back(is_start ? p.sos.offset + start * d : p.tokens.offset + (k * (s_.num_vocab + 1) + token) * d);
  }
  return result;
}

inline double ReferenceModel::cross_entropy(const double* logits, int64_t count, int64_t target, double* d) {
  const double largest = *std::max_element(logits, logits + count);
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += std::exp(logits[i] - largest);
  for (int64_t i = 0; i < count; ++i) d[i] = std::exp(logits[i] - largest) / total - (i == target ? 1 : 0);
  return std::log(total) + largest - logits[target];
}

inline ReferenceModel::Result ReferenceModel::run_with_products(std::span<const uint8_t> tokens, int64_t label,
                                                                int64_t start) const {
  const int64_t d = s_.embed_dim, rank = s_.table_rank, rows = s_.num_vocab + 1;
  const int64_t projections = s_.conditional ? s_.num_classes * d : 0, tables = projections + s_.neighbours * rank * d;
  const int64_t rest = tables + rows * rank, number_of_rows = s_.neighbours * rows;
  // Calls visit(number of the product, number of the table, number of the projection) for each term.
  const auto for_each_term = [&](const auto& visit) {
    for (int64_t row = 0; row < number_of_rows; ++row)
      for (int64_t r = 0; r < rank; ++r)
        for (int64_t i = 0; i < d; ++i)
          visit(static_cast<size_t>(projections + row * d + i), static_cast<size_t>(tables + row % rows * rank + r),
                static_cast<size_t>(projections + (row / rows * rank + r) * d + i));
  };
  Vector products(weights_.begin(), weights_.begin() + projections);
  products.resize(static_cast<size_t>(projections + number_of_rows * d));
  for_each_term([&](size_t product, size_t table, size_t projection) {
    products[product] += weights_[table] * weights_[projection];
  });
  products.insert(products.end(), weights_.begin() + rest, weights_.end());
  ops::ModelShape shape = s_;
  shape.table_rank = 0;
  Result result = ReferenceModel(shape, products).run(tokens, label, start);
  Vector gradients(result.gradients.begin(), result.gradients.begin() + projections);
  gradients.resize(static_cast<size_t>(rest));
  for_each_term([&](size_t product, size_t table, size_t projection) {
    gradients[table] += result.gradients[product] * weights_[projection];
    gradients[projection] += result.gradients[product] * weights_[table];
  });
  gradients.insert(gradients.end(), result.gradients.begin() + projections + number_of_rows * d,
                   result.gradients.end());
  result.gradients = std::move(gradients);
  return result;
}

inline ReferenceModel::Result ReferenceModel::run(std::span<const uint8_t> tokens, int64_t label, int64_t start) const {
  if (s_.table_rank > 0) return run_with_products(tokens, label, start);
  const int64_t length = s_.sequence_length, d = s_.embed_dim;
  const Parameters p = parameters();
  Result result;
  result.gradients.resize(weights_.size());
  Vector& g = result.gradients;

  Vector x;
  for (int64_t t = 0; t < length; ++t) {
    Vector sum_of_embeddings(static_cast<size_t>(d));
    for (const int64_t first : embeddings(p, tokens, start, t))
      for (int64_t i = 0; i < d; ++i)
        sum_of_embeddings[static_cast<size_t>(i)] += weights_[static_cast<size_t>(first + i)];
    x.insert(x.end(), sum_of_embeddings.begin(), sum_of_embeddings.end());
  }
  std::vector<Saved> saved(p.blocks.size());
  for (size_t l = 0; l < p.blocks.size(); ++l) x = block(p.blocks[l], x, saved[l]);
  Norm ln_f;
  if (s_.final_norm) {
    ln_f = norm(x, p.ln_f_weight, p.ln_f_bias);
    x = ln_f.out;
  }

  Vector dx;
  if (label < 0) {
    result.logits = linear(x, p.head, nullptr);  // (S, V)
    Vector d_logits(result.logits.size());
    for (int64_t t = 0; t < length; ++t)
      result.nats += cross_entropy(&result.logits[static_cast<size_t>(t * s_.num_vocab)], s_.num_vocab,
                                   tokens[static_cast<size_t>(t)], &d_logits[static_cast<size_t>(t * s_.num_vocab)]);
    dx = linear_backward(x, p.head, nullptr, d_logits, g);
  } else {
    Vector pooled(static_cast<size_t>(d));
    for (size_t i = 0; i < x.size(); ++i) pooled[i % static_cast<size_t>(d)] += x[i] / static_cast<double>(length);
    const Matrix* const bias = s_.classifier_bias ? &p.clf_bias : nullptr;
    result.logits = linear(pooled, p.clf_weight, bias);  // (C)
    Vector d_logits(result.logits.size());
    result.nats = cross_entropy(result.logits.data(), s_.num_classes, label, d_logits.data());
    const Vector d_pooled = linear_backward(pooled, p.clf_weight, bias, d_logits, g);
    for (size_t i = 0; i < x.size(); ++i)
      dx.push_back(d_pooled[i % static_cast<size_t>(d)] / static_cast<double>(length));
  }
  if (s_.final_norm) dx = norm_backward(ln_f, p.ln_f_weight, p.ln_f_bias, dx, g);
  for (size_t l = p.blocks.size(); l-- > 0;) dx = block_backward(p.blocks[l], saved[l], dx, g);
  for (int64_t t = 0; t < length; ++t)
    for (const int64_t first : embeddings(p, tokens, start, t))
      for (int64_t i = 0; i < d; ++i) g[static_cast<size_t>(first + i)] += dx[static_cast<size_t>(t * d + i)];
  return result;
}

}  // namespace igpt::testing
