#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

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

  /// h (width): the input of the first layer at `position`, from the image's `tokens`, read before `position` only.
  template <class Token>
  void embed(const Token* tokens, size_t position, float* h) const {
    std::copy_n(positions_.data() + position * width_, width_, h);
    int64_t rows[EmbeddingRows::kMost];
    const int count = rows_.find(tokens, static_cast<int64_t>(position), rows);
    for (int row = 0; row < count; ++row) {
      const float* const embedding = tokens_.data() + static_cast<size_t>(rows[row]) * width_;
      for (size_t i = 0; i < width_; ++i) h[i] += embedding[i];
    }
  }

 private:
  size_t width_;
  EmbeddingRows rows_;
  AlignedBuffer tokens_, positions_;  // the tables' rows, that of sos last; (S, width)
};

}  // namespace igpt::ops::cpu
