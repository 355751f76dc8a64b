#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "reference_model.h"
#include "simt/attention_reference.h"
#include "src/ops/cuda/block.h"
#include "src/ops/cuda/embedding.h"
#include "src/ops/cuda/model_sizes.h"

namespace igpt::ops::cuda::testing {

/// The parts of the model in double precision, written for reading. Arrays are row-major, a row for each token.
using Doubles = std::vector<double>;

inline std::vector<float> drawn(size_t count, unsigned seed, double sigma = 1, double mean = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(mean, sigma);
  std::vector<float> values(count);
  for (float& x : values) x = static_cast<float>(normal(random));
  return values;
}

/// |computed - expected| / |expected| by norm.
template <class Computed>
double relative_error(const Computed& computed, const Doubles& expected, size_t first = 0) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = static_cast<double>(computed[first + i]) - expected[i];
    difference += d * d;
    norm += expected[i] * expected[i];
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

/// (tokens, inputs) -> (tokens, outputs); `bias` may be null.
inline Doubles linear(const Doubles& x, const double* weight, const double* bias, int inputs, int outputs) {
  const size_t tokens = x.size() / inputs;
  Doubles y(tokens * outputs);
  for (size_t t = 0; t < tokens; ++t)
    for (int o = 0; o < outputs; ++o) {
      double sum = bias ? bias[o] : 0;
      for (int i = 0; i < inputs; ++i) sum += weight[o * inputs + i] * x[t * inputs + i];
      y[t * outputs + o] = sum;
    }
  return y;
}

/// Gradient of x; adds those of the weight and, unless null, of the bias.
inline Doubles linear_backward(const Doubles& x, const Doubles& dy, const double* weight, int inputs, int outputs,
                               double* d_weight, double* d_bias) {
  const size_t tokens = x.size() / inputs;
  Doubles dx(x.size());
  for (size_t t = 0; t < tokens; ++t)
    for (int o = 0; o < outputs; ++o) {
      const double d = dy[t * outputs + o];
      if (d_bias) d_bias[o] += d;
      for (int i = 0; i < inputs; ++i) {
        d_weight[o * inputs + i] += d * x[t * inputs + i];
        dx[t * inputs + i] += d * weight[o * inputs + i];
      }
    }
  return dx;
}

/// Or RMSNorm, which takes the mean as zero and has no bias.
struct LayerNorm {
  int dim;
  bool rms_norm;
  Doubles normalised, inverse_sigma;

  explicit LayerNorm(int columns, bool rms = false) : dim(columns), rms_norm(rms) {}

  Doubles forward(const Doubles& x, const double* weight, const double* bias) {
    normalised.resize(x.size());
    inverse_sigma.resize(x.size() / dim);
    Doubles y(x.size());
    for (size_t t = 0; t < x.size() / dim; ++t) {
      double mean = 0, variance = 0;
      for (int i = 0; i < dim && !rms_norm; ++i) mean += x[t * dim + i] / dim;
      for (int i = 0; i < dim; ++i) variance += (x[t * dim + i] - mean) * (x[t * dim + i] - mean) / dim;
      inverse_sigma[t] = 1 / std::sqrt(variance + 1e-5);
      for (int i = 0; i < dim; ++i) {
        normalised[t * dim + i] = (x[t * dim + i] - mean) * inverse_sigma[t];
        y[t * dim + i] = normalised[t * dim + i] * weight[i] + (rms_norm ? 0 : bias[i]);
      }
    }
    return y;
  }

  Doubles backward(const Doubles& dy, const double* weight, double* d_weight, double* d_bias) const {
    Doubles dx(dy.size());
    for (size_t t = 0; t < dy.size() / dim; ++t) {
      double mean = 0, correlation = 0;
      for (int i = 0; i < dim; ++i) {
        const double d = dy[t * dim + i], x = normalised[t * dim + i];
        d_weight[i] += d * x;
        if (!rms_norm) d_bias[i] += d;
        if (!rms_norm) mean += d * weight[i] / dim;
        correlation += d * weight[i] * x / dim;
      }
      for (int i = 0; i < dim; ++i)
        dx[t * dim + i] =
            inverse_sigma[t] * (dy[t * dim + i] * weight[i] - mean - normalised[t * dim + i] * correlation);
    }
    return dx;
  }
};

inline double normal_cdf(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}
inline double quick_sigmoid(double x) {
  return 1 / (1 + std::exp(-1.702 * x));
}
inline double gelu(double x, bool quick) {
  return x * (quick ? quick_sigmoid(x) : normal_cdf(x));
}
inline double gelu_slope(double x, bool quick) {
  if (quick) return quick_sigmoid(x) * (1 + 1.702 * x * quick_sigmoid(-x));
  return normal_cdf(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0));
}

inline void add(Doubles& to, const Doubles& from) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

/// A block without its attention: what is before and what is after.
struct BlockReference {
  int dim;
  bool pre_norm, rms_norm, quick_gelu;
  Doubles parameters, gradients = Doubles(parameters.size());
  BlockParameters<const double*> p;
  BlockParameters<double*> g;
  LayerNorm ln_1{dim, rms_norm}, ln_2{dim, rms_norm};
  Doubles normed_1, normed_2, before_gelu, hidden, attended_, d_mid;

  template <class Values>
  BlockReference(const Values& weights, const ModelShape& shape)
      : dim(static_cast<int>(shape.embed_dim)),
        pre_norm(shape.pre_norm),
        rms_norm(shape.rms_norm),
        quick_gelu(shape.quick_gelu),
        parameters(weights.begin(), weights.end()),
        p(block_parameters<const double>(parameters.data(), shape)),
        g(block_parameters(gradients.data(), shape)) {}
  BlockReference(const BlockReference&) = delete;

  Doubles qkv(const Doubles& x) {
    normed_1 = ln_1.forward(x, p.ln_1_weight, p.ln_1_bias);
    return linear(normed_1, p.in_weight, p.in_bias, dim, 3 * dim);
  }
  Doubles mid(const Doubles& x, const Doubles& attended) {
    attended_ = attended;
    Doubles y = linear(attended, p.out_weight, p.out_bias, dim, dim);
    add(y, pre_norm ? x : normed_1);
    return y;
  }
  Doubles out(const Doubles& mid) {
    normed_2 = ln_2.forward(mid, p.ln_2_weight, p.ln_2_bias);
    hidden = before_gelu = linear(normed_2, p.up_weight, p.up_bias, dim, 4 * dim);
    for (double& a : hidden) a = gelu(a, quick_gelu);
    Doubles y = linear(hidden, p.down_weight, p.down_bias, 4 * dim, dim);
    add(y, mid);
    return y;
  }
  /// Gradient of `attended`; leaves that of mid.
  Doubles d_attended(const Doubles& d_out) {
    Doubles d_hidden = linear_backward(hidden, d_out, p.down_weight, 4 * dim, dim, g.down_weight, g.down_bias);
    for (size_t i = 0; i < d_hidden.size(); ++i) d_hidden[i] *= gelu_slope(before_gelu[i], quick_gelu);
    const Doubles d_normed = linear_backward(normed_2, d_hidden, p.up_weight, dim, 4 * dim, g.up_weight, g.up_bias);
    d_mid = ln_2.backward(d_normed, p.ln_2_weight, g.ln_2_weight, g.ln_2_bias);
    add(d_mid, d_out);
    return linear_backward(attended_, d_mid, p.out_weight, dim, dim, g.out_weight, g.out_bias);
  }
  Doubles dx(const Doubles& d_qkv) {
    Doubles d_normed = linear_backward(normed_1, d_qkv, p.in_weight, dim, 3 * dim, g.in_weight, g.in_bias);
    if (!pre_norm) add(d_normed, d_mid);
    Doubles dx = ln_1.backward(d_normed, p.ln_1_weight, g.ln_1_weight, g.ln_1_bias);
    if (pre_norm) add(dx, d_mid);
    return dx;
  }
};

/// Cross-entropy in nats of each row of logits (rows, outputs), and the gradient of `scale` times their sum.
struct CrossEntropy {
  Doubles nats, d_logits;

  template <class Targets>
  CrossEntropy(const Doubles& logits, const Targets& targets, int outputs, double scale) : d_logits(logits.size()) {
    for (size_t t = 0; t < targets.size(); ++t) {
      const double* const row = &logits[t * outputs];
      const double largest = *std::max_element(row, row + outputs);
      double sum = 0;
      for (int v = 0; v < outputs; ++v) sum += std::exp(row[v] - largest);
      const auto target = static_cast<int>(targets[t]);
      nats.push_back(std::log(sum) + largest - row[target]);
      for (int v = 0; v < outputs; ++v)
        d_logits[t * outputs + v] = scale * (std::exp(row[v] - largest) / sum - (v == target ? 1 : 0));
    }
  }
};

inline std::vector<uint8_t> drawn_tokens(size_t count, int vocab, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> tokens(count);
  for (auto& token : tokens) token = static_cast<uint8_t>(random() % static_cast<unsigned>(vocab));
  return tokens;
}

/// The row of table k that is added at position s of an image: without neighbours the token before, from 1, or 0 for
/// none; else the neighbour's token, or V outside the image.
inline int neighbour_row(const ModelShape& shape, const uint8_t* image, int s, int k) {
  if (shape.neighbours == 0) return s == 0 ? 0 : image[s - 1] + 1;
  const int side = static_cast<int>(shape.side());
  const Neighbour at = neighbourhood(shape.neighbours)[static_cast<size_t>(k)];
  const int row = s / side + static_cast<int>(at.down), column = s % side + static_cast<int>(at.right);
  if (row < 0 || row >= side || column < 0 || column >= side) return static_cast<int>(shape.num_vocab);
  return image[row * side + column];
}

/// Calls visit(row of the position tables) for what is added at position s.
template <class Visit>
void for_position_rows(const ModelShape& shape, int s, Visit visit) {
  if (shape.neighbours == 0) return visit(s);
  const int side = static_cast<int>(shape.side());
  visit(s / side);
  visit(side + s % side);
}

/// The whole model on a batch.
struct ModelReference {
  Doubles logits;     // (B, S, V)
  Doubles gradients;  // of the mean cross-entropy over images and positions
  double loss = 0;    // that mean

  /// `labels`: of the images, where each class has a start token.
  ModelReference(const ModelShape& shape, const std::vector<float>& weights, const std::vector<uint8_t>& tokens,
                 const std::vector<int64_t>& labels)
      : gradients(weights.size()) {
    const igpt::testing::ReferenceModel model(shape, {weights.begin(), weights.end()});
    const auto length = static_cast<size_t>(shape.sequence_length);
    const auto share = 1 / static_cast<double>(tokens.size());
    for (size_t first = 0; first < tokens.size(); first += length) {
      const auto image = model.run({tokens.data() + first, length}, /*label=*/-1, labels[first / length]);
      logits.insert(logits.end(), image.logits.begin(), image.logits.end());
      loss += image.nats * share;
      for (size_t i = 0; i < gradients.size(); ++i) gradients[i] += image.gradients[i] * share;
    }
  }
};

/// With a start token for each of three classes.
inline ModelShape of_classes(ModelShape shape) {
  shape.num_classes = 3;
  shape.conditional = true;
  return shape;
}

inline std::vector<int64_t> drawn_labels(int images, int64_t classes) {
  std::vector<int64_t> labels;
  for (int i = 0; i < images; ++i) labels.push_back((i * 7 + 2) % classes);
  return labels;
}

/// Weights as after some training: not so small that nothing depends on them.
inline std::vector<float> drawn_weights(const ModelShape& shape, unsigned seed) {
  const ParameterTable at(shape);
  auto weights = drawn(static_cast<size_t>(at.count), seed, 1.0 / std::sqrt(static_cast<double>(shape.embed_dim)));
  const auto add_one = [&](int64_t first) {
    for (int64_t i = 0; i < shape.embed_dim; ++i) weights[static_cast<size_t>(first + i)] += 1.0f;
  };
  add_one(at.ln_f_weight);
  for (const auto& block : at.blocks) {
    add_one(block.ln_1_weight);
    add_one(block.ln_2_weight);
  }
  for (int64_t i = 0; i < at.blocks.front().ln_1_weight; ++i) weights[static_cast<size_t>(i)] *= 2.0f;
  return weights;
}

/// The architectures: the original; that with neighbours (to the left, above, above left, above right, two to the
/// left), residuals from the stream before the norm and a norm before the head; and the paper's, with RMSNorm, quick
/// GELU and no bias in the classifier's head.
inline ModelShape raster_shape(int side, int embed, int heads, int layers, int vocab) {
  ModelShape shape;
  shape.sequence_length = side * side;
  shape.embed_dim = embed;
  shape.num_heads = heads;
  shape.num_layers = layers;
  shape.num_vocab = vocab;
  return shape;
}
inline ModelShape plane_shape(int side, int embed, int heads, int layers, int vocab, int neighbours = 5) {
  ModelShape shape = raster_shape(side, embed, heads, layers, vocab);
  shape.neighbours = neighbours;
  shape.pre_norm = true;
  shape.final_norm = true;
  return shape;
}

inline ModelShape conv_shape(int side, int embed, int heads, int layers, int vocab, int neighbours = 5, int taps = 12) {
  ModelShape shape = plane_shape(side, embed, heads, layers, vocab, neighbours);
  shape.table_rank = 8;
  shape.conv_taps = taps;
  return shape;
}

inline ModelShape paper_shape(int side, int embed, int heads, int layers, int vocab) {
  ModelShape shape = raster_shape(side, embed, heads, layers, vocab);
  shape.pre_norm = true;
  shape.final_norm = true;
  shape.rms_norm = true;
  shape.quick_gelu = true;
  shape.classifier_bias = false;
  return shape;
}

inline ModelShape with_final_norm(ModelShape shape, bool final_norm = true) {
  shape.final_norm = final_norm;
  return shape;
}

}  // namespace igpt::ops::cuda::testing
