#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "igpt/error.h"
#include "igpt/ops/model_shape.h"
#include "src/ops/cpu/aligned_buffer.h"
#include "src/ops/cpu/embedding_rows.h"

namespace igpt::ops::cpu {

inline size_t rounded_up(size_t size, size_t unit) {
  return (size + unit - 1) / unit * unit;
}

/// The embeddings of tokens and positions as the decoders read them: rows of D, padded with zeros to `width`.
class PackedEmbeddings {
 public:
  /// `weights` (P): the flat buffer as ParameterTable has it, which is copied.
  PackedEmbeddings(const ModelShape& shape, const float* weights, size_t width);

  /// The start token of an image of this class; a model without one for each class does not read the class. Throws
  /// igpt::Error for a class that the model does not have.
  int64_t start_of(int64_t label) const {
    if (classes_ == 0) return 0;
    if (label < 0 || label >= classes_)
      throw Error("decoder: class " + std::to_string(label) + " is outside the model");
    return label;
  }

  /// h (width): the input of the first layer at `position`, from the image's `tokens`, read before `position` only, and
  /// its start token.
  template <class Token>
  void embed(const Token* tokens, int64_t start, size_t position, float* h) const {
    std::copy_n(positions_.data() + position * width_, width_, h);
    int64_t rows[EmbeddingRows::kMost];
    const int count = rows_.find(tokens, start, static_cast<int64_t>(position), rows);
    for (int row = 0; row < count; ++row) {
      const float* const embedding = tokens_.data() + static_cast<size_t>(rows[row]) * width_;
      for (size_t i = 0; i < width_; ++i) h[i] += embedding[i];
    }
  }

 private:
  size_t width_;
  int64_t classes_;  // that have start tokens
  EmbeddingRows rows_;
  AlignedBuffer tokens_, positions_;  // those of EmbeddingRows; (S, width)
};

}  // namespace igpt::ops::cpu
