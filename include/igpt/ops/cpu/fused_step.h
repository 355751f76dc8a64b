#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "igpt/ops/model_shape.h"

namespace igpt::ops::cpu {

/// Whether FusedStep takes this model: D up to 128, head dimension up to 32, V up to 256, and the activations of one
/// image within 512 MB. Larger models keep vector units busy through LibTorch's own kernels.
bool supports(const ModelShape& shape);

/// The vector instructions in use, as IGPT_VECTORS names them ("avx512").
std::string vectors_in_use();

/// Loss, gradients and logits of Image GPT (igpt/model/image_gpt.h) on the CPU for models so small that one image's
/// activations stay in a core's cache. A thread takes one image at a time through the forward and at once through the
/// backward pass, so that no activations of a batch are kept; vectors hold one feature of several neighbouring tokens.
///
/// `weights` and `gradients` are flat buffers (P) as ParameterTable has them.
/// `tokens` is (B, S) in [0, V). `labels` (B) in [0, C) are the images' classes; without ModelShape::conditional, only
/// classifier() needs them, and the others take none. Results do not depend on the number of threads, bit for bit.
/// Throws igpt::Error on sizes that do not fit and igpt::InputError on a token or label out of range. One call at a
/// time.
class FusedStep {
 public:
  /// Allocates all memory but what grows with the batch (a few bytes an image). `threads` at least 1; throws
  /// igpt::Error where supports(shape) is false.
  FusedStep(const ModelShape& shape, int threads);
  FusedStep(const FusedStep&) = delete;
  FusedStep& operator=(const FusedStep&) = delete;
  ~FusedStep();

  /// Adds the gradient of `scale` times the mean cross-entropy over images and pixels to `gradients`; returns the mean,
  /// in nats per pixel.
  double generative(std::span<const uint8_t> tokens, std::span<const float> weights, float scale,
                    std::span<float> gradients, std::span<const int64_t> labels = {});

  /// The same for the classifier on the pooled features; returns nats per image. With a `generative_weight` both losses
  /// in one pass: that of the classes and so many times the generative one (Chen et al. 2020, section 2.3).
  double classifier(std::span<const uint8_t> tokens, std::span<const int64_t> labels, std::span<const float> weights,
                    float scale, std::span<float> gradients, float generative_weight = 0);

  /// Sum over the pixels of each image's cross-entropy, (B) nats.
  void nats(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<double> nats_of_images,
            std::span<const int64_t> labels = {});

  /// (B, C)
  void class_logits(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<float> logits);

  /// (B, S, V)
  void logits(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<float> logits,
              std::span<const int64_t> labels = {});

  /// What linear probes read (Chen et al. 2020, section 2.4): means over the positions of each block's ln_1 and, last,
  /// of what the heads read, (B, L + 1, D).
  void features(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<double> features);

  const ModelShape& shape() const;

  /// The memory that the activations and gradients take for so many threads, about.
  static int64_t bytes(const ModelShape& shape, int threads);

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace igpt::ops::cpu
