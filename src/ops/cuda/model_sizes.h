#pragma once

#include <cstdint>

#include "igpt/ops/model_shape.h"
#include "src/ops/cuda/attention.h"
#include "src/ops/cuda/block.h"
#include "src/ops/cuda/convolution.h"
#include "src/ops/cuda/embedding.h"
#include "src/ops/cuda/head.h"
#include "src/ops/cuda/simt_launch.h"
#include "src/ops/cuda/token_tables.h"

namespace igpt::ops::cuda {

/// The sizes of a model's kernels, for batches of `images`.
struct ModelSizes {
  EmbeddingSizes embedding;
  BlockSizes block;
  AttentionSizes attention;
  HeadSizes head, classifier;
  ConvolutionSizes convolution;
  TokenTableSizes tables;

  /// The sizes have to be within the range of int, and num_heads above 0: see has_kernels().
  ModelSizes(const ModelShape& shape, int64_t images);
};

/// Whether there are kernels for all parts of the model.
bool has_kernels(const ModelShape& shape, int64_t images);

/// Whether there are, and each of them fits the device's shared memory.
bool model_supports(const ModelShape& shape, int64_t images, const simt::Limits& device);

/// Whether muon_update(), too, fits it.
bool muon_supports(const ModelShape& shape, const simt::Limits& device);

}  // namespace igpt::ops::cuda
