#pragma once

#include <cstdint>

#include "src/ops/cpu/layout.h"

namespace igpt::ops::cpu {

/// The model on one image, for one kind of vectors. `tokens` (S).
struct ImageKernels {
  const char* target;
  int lanes;

  /// Sum of the pixels' cross-entropies, nats; adds the gradient of `scale` times it.
  double (*generative)(const PackedWeights& weights, const uint8_t* tokens, float scale, Workspace& work,
                       Gradients& gradients);
  /// Cross-entropy of the class, nats; adds the gradient of `scale` times it.
  double (*classifier)(const PackedWeights& weights, const uint8_t* tokens, int64_t label, float scale, Workspace& work,
                       Gradients& gradients);
  /// Sum of the pixels' cross-entropies, nats.
  double (*nats)(const PackedWeights& weights, const uint8_t* tokens, Workspace& work);
  void (*class_logits)(const PackedWeights& weights, const uint8_t* tokens, Workspace& work, float* logits);  ///< (C)
  void (*logits)(const PackedWeights& weights, const uint8_t* tokens, Workspace& work, float* logits);  ///< (S, V)
};

/// For the widest vectors that this machine has.
const ImageKernels& image_kernels();

}  // namespace igpt::ops::cpu
