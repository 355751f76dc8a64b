#pragma once

#include "src/ops/cuda/kernel_sizes.h"
#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

struct HeadSizes {
  int64_t images = 0;       ///< B
  int64_t tokens = 0;       ///< B S
  int length = 0;           ///< S
  int embed = 0;            ///< D: a multiple of 4, up to 64
  int outputs = 0;          ///< V, up to kMostTokens, or C, up to kMostClasses
  bool final_norm = false;  ///< whether ln_f is applied before the head
  bool rms_norm = false;    ///< ln_f neither subtracts the mean nor has a bias
  bool bias = false;        ///< the head has one: a classifier's only
  int tiles_of_part = 0;    ///< of the head, in the backward pass
  int norm_weights = 0;     ///< floats of ln_f, where it is applied
  int64_t weights = 0;      ///< and with them those of the weight and the bias: of a part of the gradients

  HeadSizes(int64_t all_images, int positions, int features, int all_outputs, bool norm = false,
            bool is_rms_norm = false, bool has_bias = false)
      : images(all_images),
        tokens(images * positions),
        length(positions),
        embed(features),
        outputs(all_outputs),
        final_norm(norm),
        rms_norm(is_rms_norm),
        bias(has_bias),
        tiles_of_part(static_cast<int>(cuda::tiles_of_part(tokens, embed))),
        norm_weights(norm ? (rms_norm ? 1 : 2) * embed : 0),
        weights(norm_weights + int64_t{outputs} * (embed + (bias ? 1 : 0))) {}
};
constexpr int kMostTokens = 256, kMostClasses = 1024;

/// Logits of every position and their cross-entropy, with the gradient in the same pass. `norm` (norm_weights):
/// ln_f.weight and, but for RMSNorm, ln_f.bias. What is null is not computed; the gradients together or not at all.
struct Head {
  HeadSizes sizes;
  simt::Global<const float> norm, weight;  ///< weight (V, D)
  simt::Global<const float> x;             ///< (B, S, D)
  simt::Global<const uint8_t> tokens;      ///< (B, S) < V; null: logits only
  float scale = 1;                         ///< of the gradients of the sum over all positions
  simt::Global<float> nats = nullptr;      ///< (B, S)
  simt::Global<float> logits = nullptr;    ///< (B, S, V)
  simt::Global<float> dx = nullptr;        ///< (B, S, D)
  simt::Global<float> sums = nullptr;      ///< (parts_of(B S, D), weights): the parts of the gradients
};

/// Class logits from the mean over the positions, of ln_f's output where final_norm.
struct Classifier {
  HeadSizes sizes;
  simt::Global<const float> norm, weight, bias;  ///< weight (C, D), bias (C) where there is one
  simt::Global<const float> x;                   ///< (B, S, D)
  simt::Global<const int64_t> labels;            ///< (B) < C; null: logits only
  float scale = 1;                               ///< of the gradients of the sum over the images
  simt::Global<float> nats = nullptr;            ///< (B)
  simt::Global<float> logits = nullptr;          ///< (B, C)
  simt::Global<float> dx = nullptr;              ///< (B, S, D)
  simt::Global<float> sums = nullptr;            ///< (B, weights): the parts of the gradients
  bool add_to_dx = false;                        ///< dx grows by the gradient instead of becoming it
};

bool head_supports(const HeadSizes& sizes, int most_outputs);
int head_shared_bytes(const HeadSizes& sizes);  ///< of a block
int classifier_shared_bytes(const HeadSizes& sizes);

/// Returns null, or one line with the cause of a failure.
const char* head(const Head& arguments, void* stream = nullptr);
const char* classifier(const Classifier& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
