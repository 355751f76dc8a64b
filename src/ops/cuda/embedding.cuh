#pragma once

// Token and position embeddings. Forward reads and writes each number once. The gradient of the tables needs no
// atomics: a thread owns a column of a table in shared memory and goes through its tokens, blocks leave parts that
// ordered_sums.cuh adds up; that of the positions is a sum over the images.

#include "src/ops/cuda/embedding_rows.cuh"

namespace igpt::ops::cuda {

struct EmbeddingForwardArguments {
  EmbeddingSizes sizes;
  simt::ptr<const float> tables, positions;
  simt::ptr<const uint8_t> tokens;
  simt::ptr<float> x;
};

SIMT_KERNEL(kDenseThreads)
embedding_forward_of(SIMT_ARGUMENT EmbeddingForwardArguments in) {
  const int fours = in.sizes.embed / 4;
  const int64_t n = int64_t{simt::block()} * kDenseThreads + simt::thread(), token = n / fours;
  const int column = static_cast<int>(n % fours) * 4;
  if (token >= in.sizes.tokens) return;
  const int at = static_cast<int>(token % in.sizes.length);
  store_four(in.x + (token * in.sizes.embed + column),
             embedded(in.sizes, in.tables, in.positions, in.tokens + (token - at), at, column));
}

struct EmbeddingBackwardArguments {
  EmbeddingSizes sizes;
  int tokens_of_block, slices, tables;
  simt::ptr<const uint8_t> tokens;
  simt::ptr<const float> dx;
  simt::ptr<float> sums;
};

/// Grid (parts, tables). A thread owns one column of one of `slices` tables of the block.
SIMT_KERNEL(kDenseThreads)
embedding_backward_of(SIMT_ARGUMENT EmbeddingBackwardArguments in) {
  const int embed = in.sizes.embed, table = (in.sizes.vocab + 1) * embed, k = simt::block_y();
  simt::Arena arena;
  const auto tables = arena.take<float>(in.slices * table, "tables");
  for (int i = simt::thread(); i < in.slices * table; i += kDenseThreads) tables[i] = 0.0f;
  simt::sync_threads();
  const int down = in.sizes.down[k], right = in.sizes.right[k];
  const int column = simt::thread() % embed, slice = simt::thread() / embed;
  const int64_t first = int64_t{simt::block()} * in.tokens_of_block;
  for (int n = slice; n < in.tokens_of_block && first + n < in.sizes.tokens && slice < in.slices; n += in.slices) {
    const int64_t token = first + n;
    const int at = static_cast<int>(token % in.sizes.length);
    const int row = embedding_row(in.sizes, in.tokens + (token - at), at, down, right);
    tables[slice * table + row * embed + column] += static_cast<float>(in.dx[token * embed + column]);
  }
  simt::sync_threads();
  const auto sums = in.sums + (int64_t{simt::block()} * in.tables + k) * table;
  for (int i = simt::thread(); i < table; i += kDenseThreads) {
    float sum = 0.0f;
    for (int s = 0; s < in.slices; ++s) sum += tables[s * table + i];
    sums[i] = sum;
  }
}

}  // namespace igpt::ops::cuda
