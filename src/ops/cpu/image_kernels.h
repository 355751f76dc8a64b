#pragma once

#include <cstdint>

#include "src/ops/cpu/layout.h"

namespace igpt::ops::cpu {

/// A transformer block's parts in the order in which a step runs them on one image, each on all tokens. Attention reads
/// q and kv and writes `attended` and `log_sum_exp`; backward reads these, q_do, d_attended and delta, and writes dq
/// and dkv.
struct BlockKernels {
  using Forward = void (*)(const BlockWeights& weights, const BlockActivations& saved, Workspace& work);
  using Backward = void (*)(const BlockWeights& weights, const BlockActivations& saved, Workspace& work,
                            BlockGradients& gradients);
  using Attention = void (*)(const BlockActivations& saved, Workspace& work);

  Forward qkv;
  Attention attention;
  Forward out_proj_mlp;
  Backward out_proj_mlp_backward;
  Attention attention_backward;
  Backward qkv_backward;
};

/// The model on one image, for one kind of vectors.
struct ImageKernels {
  const char* target;
  int lanes;

  /// Sum of the pixels' cross-entropies, nats; adds the gradient of `scale` times it.
  double (*generative)(const PackedWeights& weights, const TokenImage& image, float scale, Workspace& work,
                       Gradients& gradients);
  /// Cross-entropy of the class and `generative_weight` times the pixels' mean one, nats; adds the gradient of `scale`
  /// times it.
  double (*classifier)(const PackedWeights& weights, const TokenImage& image, int64_t label, float scale,
                       float generative_weight, Workspace& work, Gradients& gradients);
  /// Sum of the pixels' cross-entropies, nats.
  double (*nats)(const PackedWeights& weights, const TokenImage& image, Workspace& work);
  void (*class_logits)(const PackedWeights& weights, const TokenImage& image, Workspace& work, float* logits);  ///< (C)
  void (*logits)(const PackedWeights& weights, const TokenImage& image, Workspace& work, float* logits);  ///< (S, V)
  /// (L + 1, D), see FusedStep::features
  void (*features)(const PackedWeights& weights, const TokenImage& image, Workspace& work, double* pooled);

  BlockKernels block;
};

/// For the widest vectors that this machine has.
const ImageKernels& image_kernels();

}  // namespace igpt::ops::cpu
