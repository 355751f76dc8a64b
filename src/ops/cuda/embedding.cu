// Token and position embeddings. The forward pass reads and writes each number once. The gradient of the tables needs
// no atomics: a thread owns a column of a table in shared memory and goes through its tokens; the parts that blocks
// leave are added up. The gradient of the positions is a sum over the images.

#include "src/ops/cuda/embedding.h"

#include <algorithm>

#include "src/ops/cuda/embedding_rows.cuh"

namespace igpt::ops::cuda {

SIMT_KERNEL(kDenseThreads)
embedding_forward_kernel(SIMT_ARGUMENT EmbeddingForward in) {
  const int fours = in.sizes.embed / 4;
  const int64_t n = int64_t{simt::block()} * kDenseThreads + simt::thread(), token = n / fours;
  const int column = static_cast<int>(n % fours) * 4;
  if (token >= in.sizes.tokens) return;
  const int at = static_cast<int>(token % in.sizes.length);
  const auto start = [&] { return in.starts + in.labels[token / in.sizes.length] * in.sizes.embed; };
  store_four(in.x + (token * in.sizes.embed + column),
             embedded(in.sizes, in.tables, in.positions, in.tokens + (token - at), at, column, start));
}

/// Grid (parts, tables). A thread owns one column of one of `slices` tables of the block.
SIMT_KERNEL(kDenseThreads)
embedding_backward_kernel(SIMT_ARGUMENT EmbeddingBackward in) {
  const int embed = in.sizes.embed, table = (in.sizes.vocab + 1) * embed, k = simt::block_y();
  simt::SharedArena arena;
  const auto tables = arena.take<float>(in.sizes.slices * table, "tables");
  for (int i = simt::thread(); i < in.sizes.slices * table; i += kDenseThreads) tables[i] = 0.0f;
  simt::sync_threads();
  const int column = simt::thread() % embed, slice = simt::thread() / embed;
  const int64_t first = int64_t{simt::block()} * in.sizes.tokens_of_part;
  for (int n = slice; n < in.sizes.tokens_of_part && first + n < in.sizes.tokens && slice < in.sizes.slices;
       n += in.sizes.slices) {
    const int64_t token = first + n;
    const int at = static_cast<int>(token % in.sizes.length);
    if (is_start_of_class(in.sizes, at, k)) continue;
    const int row = embedding_row(in.sizes, in.tokens + (token - at), at, k);
    tables[slice * table + row * embed + column] += static_cast<float>(in.dx[token * embed + column]);
  }
  simt::sync_threads();
  const auto sums = in.sums + (int64_t{simt::block()} * in.sizes.tables + k) * table;
  for (int i = simt::thread(); i < table; i += kDenseThreads) {
    float sum = 0.0f;
    for (int s = 0; s < in.sizes.slices; ++s) sum += tables[s * table + i];
    sums[i] = sum;
  }
}

/// A thread for each number of the start tokens, which goes through the images in their order.
SIMT_KERNEL(kDenseThreads)
start_tokens_backward_kernel(SIMT_ARGUMENT EmbeddingBackward in) {
  const int64_t n = int64_t{simt::block()} * kDenseThreads + simt::thread(), embed = in.sizes.embed;
  if (n >= in.sizes.classes * embed) return;
  float sum = 0.0f;
  for (int64_t first = 0, image = 0; first < in.sizes.tokens; first += in.sizes.length, ++image)
    if (in.labels[image] == n / embed) sum += static_cast<float>(in.dx[first * embed + n % embed]);
  in.d_starts[n] += sum;
}

EmbeddingSizes::EmbeddingSizes(const ModelShape& shape, int64_t images)
    : tokens(images * shape.sequence_length),
      length(static_cast<int>(shape.sequence_length)),
      embed(static_cast<int>(shape.embed_dim)),
      vocab(static_cast<int>(shape.num_vocab)),
      neighbours(static_cast<int>(shape.neighbours)),
      offsets(shape.side(), shape.neighbours),
      classes(shape.conditional ? static_cast<int>(shape.num_classes) : 0),
      tables(std::max(neighbours, 1)) {
  constexpr int64_t kFewest = 32;  // with fewer tokens in a part, adding the parts up would be the larger work
  tokens_of_part = static_cast<int>(std::max((tokens + kMostParts - 1) / kMostParts, kFewest));
  // A table for each group of threads that has a thread for each column, if they leave room for other blocks.
  constexpr int64_t kEnough = 24 * 1024;
  const int64_t table_bytes = (shape.num_vocab + 1) * std::max<int64_t>(embed, 1) * 4;
  slices = static_cast<int>(
      std::max<int64_t>(1, std::min(kDenseThreads / std::max<int64_t>(embed, 1), kEnough / table_bytes)));
}

bool embedding_supports(const EmbeddingSizes& s) {
  return dense_supports(s.tokens, s.embed) && s.length > 0 && s.length <= (1 << 24) && s.vocab > 0 && s.vocab <= 255 &&
         s.neighbours >= 0 && s.neighbours <= kMostNeighbours &&
         (s.neighbours == 0 || s.offsets.side * s.offsets.side == s.length);
}

int embedding_shared_bytes(const EmbeddingSizes& s) {
  return s.slices * (s.vocab + 1) * s.embed * 4;
}

const char* embedding_forward(const EmbeddingForward& a, void* stream) {
  if (!embedding_supports(a.sizes)) return kNoKernel;
  const int64_t fours = a.sizes.tokens * (a.sizes.embed / 4);
  return simt::launch({{(fours + kDenseThreads - 1) / kDenseThreads}, kDenseThreads, 0, stream},
                      embedding_forward_kernel, a);
}

const char* embedding_backward(const EmbeddingBackward& a, const OrderedSum& other, void* stream) {
  const EmbeddingSizes& s = a.sizes;
  if (!embedding_supports(s)) return kNoKernel;
  const simt::Config config{{s.parts(), s.tables}, kDenseThreads, embedding_shared_bytes(s), stream};
  if (const char* cause = simt::launch(config, embedding_backward_kernel, a)) return cause;
  if (s.classes > 0) {
    const int64_t numbers = int64_t{s.classes} * s.embed;
    const simt::Config of_starts{{(numbers + kDenseThreads - 1) / kDenseThreads}, kDenseThreads, 0, stream};
    if (const char* cause = simt::launch(of_starts, start_tokens_backward_kernel, a)) return cause;
  }
  const int64_t d = s.embed, side = s.offsets.side, table = s.table_rows() * d, positions = s.length * d;
  const OrderedSum of_tables{a.sums, a.d_tables, 1, s.parts(), table, 0, table, 0, a.add_to_tables};
  OrderedSum of_positions{a.dx, a.d_positions, 1, s.tokens / s.length, positions, 0, positions, 0, /*add=*/true};
  if (s.neighbours == 0) return add_parts({other, of_tables, of_positions}, stream);
  of_positions.to = a.plane;
  of_positions.add = false;
  if (const char* cause = add_parts({other, of_tables, of_positions}, stream)) return cause;
  // From the gradients of all positions to those of their rows and columns.
  float* const d_rows = simt::address(a.d_positions);
  return add_parts({{a.plane, d_rows, side, side, d, side * d, d, d, /*add=*/true},
                    {a.plane, d_rows + side * d, side, side, d, d, side * d, d, /*add=*/true}},
                   stream);
}

}  // namespace igpt::ops::cuda
