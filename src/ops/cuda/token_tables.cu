// Tables of neighbours that are products of two small matrices: 0.1 million multiply-adds, and twice as many back.

#include "src/ops/cuda/token_tables.h"

#include "src/ops/cuda/dense_tiles.cuh"

namespace igpt::ops::cuda {

SIMT_KERNEL(kDenseThreads)
token_tables_kernel(TokenTables in) {
  const int embed = in.sizes.embed, rank = in.sizes.rank, rows = in.sizes.rows;
  const int n = static_cast<int>(simt::block()) * kDenseThreads + simt::thread(), row = n / embed, column = n % embed;
  if (row >= in.sizes.neighbours * rows) return;
  const int k = row / rows, token = row % rows;
  float sum = 0.0f;
  for (int r = 0; r < rank; ++r)
    sum = fmaf(static_cast<float>(in.tokens[token * rank + r]),
               static_cast<float>(in.projections[(k * rank + r) * embed + column]), sum);
  in.tables[n] = sum;
}

/// A thread for each number of the projections, and then of the tokens.
SIMT_KERNEL(kDenseThreads)
token_tables_backward_kernel(TokenTablesBackward in) {
  const int embed = in.sizes.embed, rank = in.sizes.rank, rows = in.sizes.rows, neighbours = in.sizes.neighbours;
  const int n = static_cast<int>(simt::block()) * kDenseThreads + simt::thread();
  const int projections = neighbours * rank * embed;
  float sum = 0.0f;
  if (n < projections) {
    const int k = n / (rank * embed), r = n / embed % rank, column = n % embed;
    for (int token = 0; token < rows; ++token)
      sum = fmaf(static_cast<float>(in.d_tables[(k * rows + token) * embed + column]),
                 static_cast<float>(in.tokens[token * rank + r]), sum);
    in.d_projections[n] += sum;
  } else if (n < projections + rows * rank) {
    const int number = n - projections, token = number / rank, r = number % rank;
    for (int k = 0; k < neighbours; ++k)
      for (int column = 0; column < embed; ++column)
        sum = fmaf(static_cast<float>(in.d_tables[(k * rows + token) * embed + column]),
                   static_cast<float>(in.projections[(k * rank + r) * embed + column]), sum);
    in.d_tokens[number] += sum;
  }
}

bool token_tables_support(const TokenTableSizes& s) {
  return s.rank == 0 || (s.rank % 4 == 0 && s.rank <= 1024 && s.neighbours > 0);  // what lies behind is aligned
}

const char* token_tables(const TokenTables& a, void* stream) {
  return simt::launch({{(a.sizes.count() + kDenseThreads - 1) / kDenseThreads}, kDenseThreads, 0, stream},
                      token_tables_kernel, a);
}

const char* token_tables_backward(const TokenTablesBackward& a, void* stream) {
  const int64_t numbers = int64_t{a.sizes.rank} * (a.sizes.neighbours * a.sizes.embed + a.sizes.rows);
  return simt::launch({{(numbers + kDenseThreads - 1) / kDenseThreads}, kDenseThreads, 0, stream},
                      token_tables_backward_kernel, a);
}

}  // namespace igpt::ops::cuda
