#pragma once

#include "igpt/ops/model_shape.h"
#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// Of the neighbours' tables that are products (ModelShape::table_rank).
struct TokenTableSizes {
  int neighbours = 0, rows = 0, rank = 0, embed = 0;  ///< K, V + 1, R, D

  explicit TokenTableSizes(const ModelShape& shape)
      : neighbours(static_cast<int>(shape.neighbours)),
        rows(static_cast<int>(shape.num_vocab + 1)),
        rank(static_cast<int>(shape.table_rank)),
        embed(static_cast<int>(shape.embed_dim)) {}
  int64_t count() const { return rank > 0 ? int64_t{neighbours} * rows * embed : 0; }  ///< floats of the tables
};

/// tables (K, V + 1, D) of tokens (V + 1, R) and projections (K, R, D).
struct TokenTables {
  TokenTableSizes sizes;
  simt::Global<const float> tokens, projections;
  simt::Global<float> tables;
};
struct TokenTablesBackward {
  TokenTableSizes sizes;
  simt::Global<const float> tokens, projections, d_tables;
  simt::Global<float> d_tokens, d_projections;  ///< grow by the gradients
};

bool token_tables_support(const TokenTableSizes& sizes);

/// A launch each. Null, or one line with the cause of a failure.
const char* token_tables(const TokenTables& arguments, void* stream = nullptr);
const char* token_tables_backward(const TokenTablesBackward& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
