#pragma once

#include <vector>

#include "igpt/ops/model_shape.h"

namespace igpt::ops::cpu {

/// The rows of all tables of tokens, (rows, D), from the flat buffer: token_embeddings or, with ModelShape::table_rank,
/// the products.
std::vector<float> token_tables(const ModelShape& shape, const ParameterTable& at, const float* weights);

/// Adds the gradients of what the tables are made of to the flat buffer, from those of their rows, `stride` apart.
void add_table_gradients(const ModelShape& shape, const ParameterTable& at, const float* weights, const float* d_rows,
                         int64_t stride, float* gradients);

}  // namespace igpt::ops::cpu
