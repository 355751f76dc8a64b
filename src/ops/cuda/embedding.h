#pragma once

#include "igpt/ops/model_shape.h"
#include "src/ops/cuda/ordered_sums.h"
#include "src/ops/cuda/pixel_offsets.h"
#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// The embedding of a position is the sum of a row of each token table and of the rows of the position itself.
///
/// Without neighbours there is one token table, whose row 0 (sos) stands before the image and whose row v + 1 is token
/// v, as sos and token_embeddings lie in the flat buffer; and a row for each position. With K neighbours each has a
/// table of its own, in which row v is token v and the last row stands for what is outside the image; positions are the
/// rows of the image, then its columns.
///
/// Where each class has a start token, that of the image's class stands in the place of sos or, with neighbours, of the
/// first position's first neighbour.
struct EmbeddingSizes {
  int64_t tokens = 0;       ///< B S
  int length = 0;           ///< S
  int embed = 0;            ///< D: a multiple of 4, up to 64
  int vocab = 0;            ///< V: up to 255
  int neighbours = 0;       ///< K
  PixelOffsets offsets;     ///< of the K neighbours
  int classes = 0;          ///< C, where each has a start token; otherwise 0
  int tables = 1;           ///< max(K, 1)
  int tokens_of_part = 32;  ///< in the backward pass: tokens of a block,
  int slices = 1;           ///< and copies of a table in its shared memory

  EmbeddingSizes(const ModelShape& shape, int64_t images);

  int64_t table_rows() const { return int64_t{tables} * (vocab + 1); }
  int64_t position_rows() const { return neighbours > 0 ? 2 * offsets.side : length; }
  int64_t parts() const { return (tokens + tokens_of_part - 1) / tokens_of_part; }
  /// Where the tables begin in the flat buffer of parameters; row 0 of the one table of a model without neighbours lies
  /// before its token embeddings, and is not used if there are start tokens of classes.
  int64_t first_table(const ParameterTable& at) const {
    return neighbours > 0 ? at.token_embeddings : at.token_embeddings - embed;
  }
  int64_t first_start(const ParameterTable& at) const { return classes > 0 ? at.sos : 0; }
};

/// tables (table_rows, D), positions (position_rows, D), tokens (B, S) < V, x (B, S, D). With classes also their start
/// tokens, starts (C, D), and labels (B) < C.
struct EmbeddingForward {
  EmbeddingSizes sizes;
  simt::Global<const float> tables, positions;
  simt::Global<const uint8_t> tokens;
  simt::Global<float> x;
  simt::Global<const float> starts;
  simt::Global<const int64_t> labels;
};
struct EmbeddingBackward {
  EmbeddingSizes sizes;
  simt::Global<const uint8_t> tokens;
  simt::Global<const float> dx;
  simt::Global<float> d_tables, d_positions;  ///< grow by the gradients
  simt::Global<float> sums;                   ///< (parts, table_rows, D): scratch
  simt::Global<float> plane;                  ///< (S, D): scratch, with neighbours only
  simt::Global<float> d_starts;               ///< (C, D): grows; with classes only, as the labels
  simt::Global<const int64_t> labels;
  bool add_to_tables = true;  ///< otherwise d_tables becomes the gradient
};

bool embedding_supports(const EmbeddingSizes& sizes);
int embedding_shared_bytes(const EmbeddingSizes& sizes);  ///< of a block in the backward pass

/// Returns null, or one line with the cause of a failure. The backward pass takes two launches, another with neighbours
/// and another with classes;
/// `other` is summed up in the second one.
const char* embedding_forward(const EmbeddingForward& arguments, void* stream = nullptr);
const char* embedding_backward(const EmbeddingBackward& arguments, const OrderedSum& other = {},
                               void* stream = nullptr);

}  // namespace igpt::ops::cuda
