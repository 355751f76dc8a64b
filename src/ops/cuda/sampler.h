#pragma once

#include <cstdint>

#include "igpt/ops/model_shape.h"

namespace igpt::ops::cuda {

/// As igpt::ops::SamplingOptions.
struct DrawOptions {
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  uint64_t seed = 0;
};

/// Draws whole images in one launch, a block for each, with the random numbers and the choice of igpt::sampling::draw:
/// the same images as on the CPU, unless the rounding of a logit decides.
struct Sampler {
  ModelShape shape;
  int64_t images = 0;  ///< B
  int64_t given = 0;   ///< tokens of each image that are given
  DrawOptions options;
  const float* weights;             ///< flat (ParameterTable)
  const uint64_t* streams;          ///< (B)
  uint8_t* tokens;                  ///< (B, S): from `given` on, they are written
  float* cache;                     ///< (sampler_cache_floats): scratch
  int32_t* faults;                  ///< (B): 1 where logits were not finite, else 0
  float* logits = nullptr;          ///< (B, S, V): of all positions
  const int64_t* labels = nullptr;  ///< (B) < C, where each class has a start token
};

/// Floats of a position in one layer that later positions read: key, value and, with convolutions, what these read.
constexpr int64_t sampler_cache_row(const ModelShape& s) {
  return (s.conv_taps > 0 ? 3 : 2) * s.embed_dim;
}
/// Of all positions, layers and images, and behind them the tables of the neighbours, where they are products.
constexpr int64_t sampler_cache_floats(const ModelShape& s, int64_t images) {
  const int64_t tables = s.table_rank > 0 ? s.neighbours * (s.num_vocab + 1) * s.embed_dim : 0;
  return images * s.num_layers * s.sequence_length * sampler_cache_row(s) + tables;
}

int sampler_shared_bytes(const ModelShape& shape);  ///< of a block, without keys and values

/// Returns null, or one line with the cause of a failure. Options have to pass igpt::sampling::check.
const char* sample(const Sampler& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
