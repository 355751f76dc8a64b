#include "src/ops/cpu/packed_embeddings.h"

#include "src/ops/cpu/token_tables.h"

namespace igpt::ops::cpu {

PackedEmbeddings::PackedEmbeddings(const ModelShape& shape, const float* weights, size_t width)
    : width_(width), classes_(shape.conditional ? shape.num_classes : 0), rows_(shape) {
  const ParameterTable at(shape);
  const auto d = static_cast<size_t>(shape.embed_dim), length = static_cast<size_t>(shape.sequence_length);
  const auto copy_row = [&](const float* rows, size_t row, AlignedBuffer& to, size_t place) {
    std::copy_n(rows + row * d, d, to.data() + place * width);
  };
  const std::vector<float> tables = token_tables(shape, at, weights);
  const auto token_rows = static_cast<size_t>(rows_.token_rows()), all_rows = static_cast<size_t>(rows_.rows());
  tokens_ = AlignedBuffer(all_rows * width);
  positions_ = AlignedBuffer(length * width);
  for (size_t row = 0; row < token_rows; ++row) copy_row(tables.data(), row, tokens_, row);
  for (size_t row = token_rows; row < all_rows; ++row) copy_row(weights + at.sos, row - token_rows, tokens_, row);
  if (!shape.is_plane()) {
    for (size_t s = 0; s < length; ++s) copy_row(weights + at.position_embeddings, s, positions_, s);
    return;
  }
  const auto side = static_cast<size_t>(shape.side());
  const float* const rows = weights + at.position_embeddings;  // those of the columns behind them
  const float* const columns = rows + side * d;
  for (size_t s = 0; s < length; ++s)
    for (size_t i = 0; i < d; ++i)
      positions_.data()[s * width + i] = rows[s / side * d + i] + columns[s % side * d + i];
}

}  // namespace igpt::ops::cpu
