#pragma once

#include <cstdint>

#include "src/ops/cuda/block.h"
#include "src/ops/cuda/embedding.h"
#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// What the kernels need to know of a model: of `image-gpt` as it stands, of one with neighbours' embeddings and
/// ordinary residuals by the last three.
struct ModelShape {
  int64_t length = 784;  ///< S
  int64_t embed = 16;    ///< D
  int64_t heads = 2;     ///< H
  int64_t layers = 8;    ///< L
  int64_t vocab = 16;    ///< V
  int64_t classes = 10;  ///< C
  Neighbourhood neighbours;
  bool residual_from_normalised = true;
  bool final_norm = false;

  int64_t head_dim() const { return embed / heads; }
  EmbeddingSizes embedding(int64_t images) const { return {images, length, embed, vocab, neighbours}; }
};

/// Where the parameters begin in the flat buffer, in the order of igpt::parameter_shapes: sos and the token table, or
/// the neighbours' tables; position tables; blocks; ln_f; head; clf_head.
struct ParameterOffsets {
  int64_t tables, positions, blocks, norm, head, classifier, classifier_bias, count;

  explicit ParameterOffsets(const ModelShape& s) {
    const EmbeddingSizes embedding = s.embedding(1);
    tables = 0;
    positions = tables + embedding.table_rows() * s.embed;
    blocks = positions + embedding.position_rows() * s.embed;
    norm = blocks + s.layers * block_parameter_count(s.embed);
    head = norm + 2 * s.embed;
    classifier = head + s.vocab * s.embed;
    classifier_bias = classifier + s.classes * s.embed;
    count = classifier_bias + s.classes;
  }
};

/// Whether all of the model's kernels exist.
bool has_kernels(const ModelShape& shape, int64_t images);

/// Whether they do, and each of them fits the device's shared memory.
bool model_supports(const ModelShape& shape, int64_t images, const simt::Limits& device);

}  // namespace igpt::ops::cuda
