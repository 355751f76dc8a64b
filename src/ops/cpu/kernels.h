#pragma once

#include <cstdint>

#include "src/ops/cpu/layout.h"

namespace igpt::ops::cpu {

/// A transformer block's parts in the order in which a step runs them on one image, each on all tokens.
struct BlockKernels {
  void (*dense_before)(const BlockWeights& weights, const BlockActivations& saved, Workspace& work);
  AttentionKernels attention;  ///< in fp32
  void (*dense_after)(const BlockWeights& weights, const BlockActivations& saved, Workspace& work);
  void (*dense_backward_to)(const BlockWeights& weights, const BlockActivations& saved, Workspace& work,
                            BlockGradients& gradients);
  void (*dense_backward_from)(const BlockWeights& weights, const BlockActivations& saved, Workspace& work,
                              BlockGradients& gradients);
};

/// The model on one image, for one kind of vectors, with the workspace's attention. `tokens` (S).
struct ImageKernels {
  const char* target;
  int lanes;

  /// Sum of the pixels' cross-entropies, nats; adds the gradient of `scale` times it.
  double (*generative)(const PackedWeights& weights, const uint8_t* tokens, float scale, Workspace& work,
                       Gradients& gradients);
  /// Cross-entropy of the class and `generative_weight` times the pixels' mean one, nats; adds the gradient of `scale`
  /// times it.
  double (*classifier)(const PackedWeights& weights, const uint8_t* tokens, int64_t label, float scale,
                       float generative_weight, Workspace& work, Gradients& gradients);
  /// Sum of the pixels' cross-entropies, nats.
  double (*nats)(const PackedWeights& weights, const uint8_t* tokens, Workspace& work);
  void (*class_logits)(const PackedWeights& weights, const uint8_t* tokens, Workspace& work, float* logits);  ///< (C)
  void (*logits)(const PackedWeights& weights, const uint8_t* tokens, Workspace& work, float* logits);  ///< (S, V)

  BlockKernels block;
};

/// For the widest vectors that this machine has.
const ImageKernels& image_kernels();

}  // namespace igpt::ops::cpu
