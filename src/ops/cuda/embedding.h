#pragma once

#include <cstdint>

namespace igpt::ops::cuda {

constexpr int kMostNeighbours = 60;

/// What is embedded before a position: the tokens of K positions that come before it in raster order, each from a table
/// of its own, and the position itself.
struct Neighbourhood {
  int count = 1;  ///< K
  int side = 0;   ///< of the image; 0: K = 1, the token before in raster order
  int8_t down[kMostNeighbours]{}, right[kMostNeighbours]{};  ///< from the position to the neighbour, where side > 0
};

struct EmbeddingSizes {
  int64_t images = 0, length = 0;  ///< B, S
  int64_t embed = 0, vocab = 0;    ///< D: a multiple of 4, up to 64; V: up to 255
  Neighbourhood neighbours;

  int64_t table_rows() const { return neighbours.count * (vocab + 1); }
  /// Of the position tables: S, or the rows and the columns of the image.
  int64_t position_rows() const { return neighbours.side > 0 ? 2 * int64_t{neighbours.side} : length; }
};

/// tables (K, V + 1, D): with side 0 the first row (sos) stands before the image and token v is row v + 1, as sos and
/// token_embeddings lie in the flat buffer; else token v is row v, and the last row stands for what is outside the
/// image. positions (S, D), or rows and columns (2 side, D). tokens (B, S) < V. x (B, S, D).
struct EmbeddingForward {
  EmbeddingSizes sizes;
  const float *tables, *positions;
  const uint8_t* tokens;
  float* x;
};
/// `sums` (embedding_parts(sizes), K (V + 1), D): the sum over the first dimension is the gradient of the tables.
struct EmbeddingBackward {
  EmbeddingSizes sizes;
  const uint8_t* tokens;
  const float* dx;
  float* sums;
};

bool embedding_supports(const EmbeddingSizes& sizes);
int64_t embedding_parts(const EmbeddingSizes& sizes);
int embedding_shared_bytes(const EmbeddingSizes& sizes);  ///< of a block in the backward pass

/// Null, or one line with the cause why not.
const char* embedding_forward(const EmbeddingForward& arguments, void* stream = nullptr);
const char* embedding_backward(const EmbeddingBackward& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
