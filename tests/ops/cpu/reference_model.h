#pragma once

#include <cmath>
#include <cstdint>
#include <span>
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

  /// Cross-entropy of the tokens or, with a label, of the class.
  Result run(std::span<const uint8_t> tokens, int64_t label = -1) const;

 private:
  struct Matrix {  // of the flat vector: (rows, columns)
    int64_t offset, rows, columns;
  };
  struct Block {
    Matrix ln_1_weight, ln_1_bias, ln_2_weight, ln_2_bias, in, in_bias, out, out_bias, up, up_bias, down, down_bias;
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
    Vector qkv, probabilities, attended, hidden, activated;
  };

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
  Vector block(const Block& b, const Vector& x, Saved& saved) const;
  Vector block_backward(const Block& b, const Saved& saved, const Vector& d, Vector& g) const;
  /// The entries of the flat vector that a position's input is the sum of: the first of D each.
  std::vector<int64_t> embeddings(const Parameters& p, std::span<const uint8_t> tokens, int64_t position) const;
  static double cross_entropy(const double* logits, int64_t count, int64_t target, double* d);

  ops::ModelShape s_;
  Vector weights_;
};

}  // namespace igpt::testing
