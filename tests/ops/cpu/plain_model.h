#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "igpt/model/options.h"

namespace igpt::testing {

/// The model written out in double precision over the flat parameters (parameter_shapes): the oracle of the kernels.
class PlainModel {
 public:
  PlainModel(const ImageGPTOptions& options, std::span<const float> parameters)
      : o_(options), next_(parameters.data()) {
    const int64_t d = o_.embed_dim;
    sos_ = take(d);
    tokens_ = take(o_.num_vocab * d);
    positions_ = take(o_.sequence_length() * d);
    for (int64_t i = 0; i < o_.num_layers; ++i) {
      Layer layer;
      layer.ln_1_weight = take(d), layer.ln_1_bias = take(d), layer.ln_2_weight = take(d), layer.ln_2_bias = take(d);
      layer.in_weight = take(3 * d * d), layer.in_bias = take(3 * d);
      layer.out_weight = take(d * d), layer.out_bias = take(d);
      layer.fc_weight = take(4 * d * d), layer.fc_bias = take(4 * d);
      layer.proj_weight = take(4 * d * d), layer.proj_bias = take(d);
      layers_.push_back(layer);
    }
    take(2 * d);  // ln_f
    head_ = take(o_.num_vocab * d);
  }

  static size_t parameter_count(const ImageGPTOptions& o) {
    const int64_t d = o.embed_dim;
    return static_cast<size_t>(d * (1 + 2 * o.num_vocab + o.sequence_length() + 2 + o.num_classes) + o.num_classes +
                               o.num_layers * (12 * d * d + 13 * d));
  }

  /// Logits (S, V) of an image's tokens (S).
  std::vector<std::vector<double>> logits(const std::vector<int64_t>& x) const {
    const int64_t d = o_.embed_dim;
    std::vector<std::vector<double>> h;  // (S, D)
    for (size_t s = 0; s < x.size(); ++s) {
      const float* embedding = s == 0 ? sos_ : tokens_ + x[s - 1] * d;
      h.emplace_back(static_cast<size_t>(d));
      for (int64_t i = 0; i < d; ++i) h[s][i] = double{embedding[i]} + positions_[static_cast<int64_t>(s) * d + i];
    }
    for (const Layer& layer : layers_) block(layer, h);
    for (auto& row : h) row = linear(row, head_, nullptr, o_.num_vocab);
    return h;
  }

 private:
  using Row = std::vector<double>;
  struct Layer {
    const float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias, *in_weight, *in_bias, *out_weight, *out_bias,
        *fc_weight, *fc_bias, *proj_weight, *proj_bias;
  };

  const float* take(int64_t count) {
    const float* taken = next_;
    next_ += count;
    return taken;
  }

  static Row linear(const Row& x, const float* weight, const float* bias, int64_t outputs) {
    Row y(static_cast<size_t>(outputs));
    for (size_t o = 0; o < y.size(); ++o) {
      y[o] = bias ? bias[o] : 0;
      for (size_t i = 0; i < x.size(); ++i) y[o] += x[i] * weight[o * x.size() + i];
    }
    return y;
  }

  static Row layer_norm(const Row& x, const float* weight, const float* bias) {
    double mean = 0, variance = 0;
    for (const double value : x) mean += value / static_cast<double>(x.size());
    for (const double value : x) variance += (value - mean) * (value - mean) / static_cast<double>(x.size());
    Row y(x.size());
    for (size_t i = 0; i < x.size(); ++i) y[i] = (x[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i];
    return y;
  }

  static void add(Row& x, const Row& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  void block(const Layer& layer, std::vector<Row>& h) const {
    std::vector<Row> qkv;
    for (auto& row : h) {
      row = layer_norm(row, layer.ln_1_weight, layer.ln_1_bias);
      qkv.push_back(linear(row, layer.in_weight, layer.in_bias, 3 * o_.embed_dim));
    }
    for (size_t s = 0; s < h.size(); ++s) {
      add(h[s], linear(attended(qkv, s), layer.out_weight, layer.out_bias, o_.embed_dim));
      Row hidden = linear(layer_norm(h[s], layer.ln_2_weight, layer.ln_2_bias), layer.fc_weight, layer.fc_bias,
                          4 * o_.embed_dim);
      for (double& value : hidden) value *= 0.5 * std::erfc(-value / std::sqrt(2.0));
      add(h[s], linear(hidden, layer.proj_weight, layer.proj_bias, o_.embed_dim));
    }
  }

  Row attended(const std::vector<Row>& qkv, size_t query) const {
    const auto width = static_cast<size_t>(o_.embed_dim), d = static_cast<size_t>(o_.head_dim());
    Row result(width);
    for (size_t first = 0; first < width; first += d) {
      Row p(query + 1);
      double largest = -INFINITY, sum = 0;
      for (size_t key = 0; key <= query; ++key) {
        for (size_t i = first; i < first + d; ++i) p[key] += qkv[query][i] * qkv[key][width + i];
        p[key] /= std::sqrt(static_cast<double>(d));
        largest = std::max(largest, p[key]);
      }
      for (double& value : p) sum += value = std::exp(value - largest);
      for (size_t key = 0; key <= query; ++key)
        for (size_t i = first; i < first + d; ++i) result[i] += p[key] / sum * qkv[key][2 * width + i];
    }
    return result;
  }

  ImageGPTOptions o_;
  const float* next_;
  const float *sos_, *tokens_, *positions_, *head_;
  std::vector<Layer> layers_;
};

/// Every parameter from a normal distribution, of the size of a trained model's.
inline std::vector<float> random_parameters(const ImageGPTOptions& options, float scale = 0.4f) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> parameters(PlainModel::parameter_count(options));
  for (float& parameter : parameters) parameter = normal(random);
  return parameters;
}

}  // namespace igpt::testing
