#pragma once

#include "src/ops/cuda/dense_tiles.cuh"
#include "src/ops/cuda/embedding.h"

namespace igpt::ops::cuda {

struct DeviceEmbedding {
  int64_t tokens;  // B S
  int length, embed, vocab;
  Neighbourhood neighbours;
};

/// Row of a table for what is before position `at` of an image: the neighbour `down` and `right` of it, or where side
/// is 0 the token before. `tokens` are the image's, of any type.
template <class Tokens>
SIMT_DEVICE int embedding_row(const DeviceEmbedding& in, Tokens tokens, int at, int down, int right) {
  const int side = in.neighbours.side;
  if (side == 0) return at == 0 ? 0 : 1 + static_cast<int>(tokens[at - 1]);
  const int row = at / side + down, column = at % side + right;
  const bool inside = row >= 0 && column >= 0 && column < side;
  return inside ? static_cast<int>(tokens[row * side + column]) : in.vocab;
}

/// Four columns of a position's embedding.
template <class Tokens>
SIMT_DEVICE Four embedded(const DeviceEmbedding& in, simt::ptr<const float> tables, simt::ptr<const float> positions,
                          Tokens tokens, int at, int column) {
  const Neighbourhood& n = in.neighbours;
  Four sum = load_four(positions + ((n.side > 0 ? at / n.side : at) * in.embed + column));
  if (n.side > 0) sum = sum + load_four(positions + ((n.side + at % n.side) * in.embed + column));
#pragma unroll 1
  for (int k = 0; k < n.count; ++k) {
    const int neighbour = embedding_row(in, tokens, at, n.down[k], n.right[k]);
    sum = sum + load_four(tables + ((k * (in.vocab + 1) + neighbour) * in.embed + column));
  }
  return sum;
}

}  // namespace igpt::ops::cuda
