#include "src/ops/cpu/token_tables.h"

namespace igpt::ops::cpu {
namespace {

int64_t rows_of(const ModelShape& s) {
  return s.is_plane() ? s.neighbours * (s.num_vocab + 1) : s.num_vocab;
}

// Calls visit(row, token number, projection number) for each of the products' numbers of rank, so that row += token *
// projection; numbers are places in the flat buffer, the projection's and the row's the first of D.
template <class Visit>
void for_each_term(const ModelShape& s, const ParameterTable& at, const Visit& visit) {
  const int64_t rank = s.table_rank;
  for (int64_t k = 0, row = 0; k < s.neighbours; ++k)
    for (int64_t v = 0; v <= s.num_vocab; ++v, ++row)
      for (int64_t r = 0; r < rank; ++r)
        visit(row, at.token_embeddings + v * rank + r, at.projections + (k * rank + r) * s.embed_dim);
}

}  // namespace

std::vector<float> token_tables(const ModelShape& s, const ParameterTable& at, const float* weights) {
  const int64_t d = s.embed_dim, rows = rows_of(s);
  if (s.table_rank == 0) return {weights + at.token_embeddings, weights + at.token_embeddings + rows * d};
  std::vector<float> tables(static_cast<size_t>(rows * d));
  for_each_term(s, at, [&](int64_t row, int64_t token, int64_t projection) {
    float* const to = tables.data() + row * d;
    for (int64_t i = 0; i < d; ++i) to[i] += weights[token] * weights[projection + i];
  });
  return tables;
}

void add_table_gradients(const ModelShape& s, const ParameterTable& at, const float* weights, const float* d_rows,
                         int64_t stride, float* gradients) {
  const int64_t d = s.embed_dim;
  if (s.table_rank == 0) {
    for (int64_t row = 0; row < rows_of(s); ++row)
      for (int64_t i = 0; i < d; ++i) gradients[at.token_embeddings + row * d + i] += d_rows[row * stride + i];
    return;
  }
  for_each_term(s, at, [&](int64_t row, int64_t token, int64_t projection) {
    const float* const d_row = d_rows + row * stride;
    float of_token = 0;
    for (int64_t i = 0; i < d; ++i) {
      of_token += d_row[i] * weights[projection + i];
      gradients[projection + i] += d_row[i] * weights[token];
    }
    gradients[token] += of_token;
  });
}

}  // namespace igpt::ops::cpu
