#pragma once

#include "src/ops/cuda/dense_tiles.cuh"
#include "src/ops/cuda/embedding.h"

namespace igpt::ops::cuda {

/// Whether position `at` has the start token of the image's class in the place of table k.
SIMT_DEVICE bool is_start_of_class(const EmbeddingSizes& in, int at, int k) {
  return in.classes > 0 && at == 0 && k == 0;
}

/// The row of token table k for position `at` of an image: that of its k-th neighbour or, without neighbours, of the
/// token before. `tokens` are the image's, of any type.
template <class Tokens>
SIMT_DEVICE int embedding_row(const EmbeddingSizes& in, Tokens tokens, int at, int k) {
  if (in.neighbours == 0) return at == 0 ? 0 : 1 + static_cast<int>(tokens[at - 1]);
  const int neighbour = in.offsets.neighbour(at, k);
  return neighbour >= 0 ? static_cast<int>(tokens[neighbour]) : in.vocab;
}

/// Four columns of a position's embedding. start() is the start token of the image's class, (D).
template <class Tokens, class Start>
SIMT_DEVICE Four embedded(const EmbeddingSizes& in, simt::ptr<const float> tables, simt::ptr<const float> positions,
                          Tokens tokens, int at, int column, const Start& start) {
  const bool plane = in.neighbours > 0;
  Four sum = load_four(positions + ((plane ? at / in.offsets.side : at) * in.embed + column));
  if (plane) sum = sum + load_four(positions + ((in.offsets.side + at % in.offsets.side) * in.embed + column));
  int k = 0;
#pragma unroll 1
  do {
    if (is_start_of_class(in, at, k)) {
      sum = sum + load_four(start() + column);
      continue;
    }
    const int row = embedding_row(in, tokens, at, k);
    sum = sum + load_four(tables + ((k * (in.vocab + 1) + row) * in.embed + column));
  } while (++k < in.neighbours);
  return sum;
}

}  // namespace igpt::ops::cuda
