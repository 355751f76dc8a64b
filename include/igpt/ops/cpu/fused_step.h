#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace igpt::ops::cpu {

/// The sizes that the kernels need to know of a model (igpt/model/options.h).
struct ModelShape {
  int64_t embed_dim = 16;         ///< D
  int64_t num_heads = 2;          ///< H
  int64_t num_layers = 8;         ///< L
  int64_t sequence_length = 784;  ///< S
  int64_t num_vocab = 16;         ///< V
  int64_t num_classes = 10;       ///< C
  int64_t neighbours = 0;         ///< K of the architecture image-gpt-2d, whose S is a square; 0: the original's
  bool pre_norm = false;          ///< whether the residual branch continues from the unnormalised stream
  bool final_norm = false;        ///< whether ln_f is applied

  int64_t head_dim() const { return embed_dim / num_heads; }
  bool is_2d() const { return neighbours > 0; }
  int64_t side() const;  ///< of a square image
  bool operator==(const ModelShape&) const = default;
};

/// Whether FusedStep takes this model: D up to 128, head dimension up to 32, V up to 256, and the activations of one
/// image within 512 MB. Larger models keep vector units busy through LibTorch's own kernels.
bool supports(const ModelShape& shape);

constexpr int64_t kLargestBf16HeadDim = 16;

/// What attention's matrix products are computed in; everything else is fp32.
enum class Precision {
  fp32,
  bf16,           ///< on AMX tiles, for head dimensions up to kLargestBf16HeadDim; wider heads in fp32
  emulated_bf16,  ///< the same on tiles in memory: to test bf16 where there is no AMX
};

/// Why this machine cannot compute in `precision`, as a note says it ("this CPU has no AMX"); empty where it can. The
/// first question about bf16 compares a small model's gradients with fp32 ones, in a millisecond.
std::string why_not(Precision precision);

/// Number of floats in the flat buffer of weights: the sum over igpt::parameter_shapes.
int64_t parameter_count(const ModelShape& shape);

/// Loss, gradients and logits of Image GPT (igpt/model/image_gpt.h) on the CPU for models so small that one image's
/// activations stay in a core's cache. A thread takes one image at a time through the forward and at once through the
/// backward pass, so that no activations of a batch are kept; vectors hold one feature of several neighbouring tokens.
///
/// `weights` and `gradients` are flat buffers of parameter_count floats in the order of igpt::parameter_shapes.
/// `tokens` is (B, S) in [0, V). Results do not depend on the number of threads, bit for bit. Throws igpt::Error on
/// sizes that do not fit and igpt::InputError on a token or label out of range. One call at a time.
class FusedStep {
 public:
  /// Allocates all memory but what grows with the batch (a few bytes an image). `threads` at least 1; throws
  /// igpt::Error where supports(shape) is false or why_not(precision) has an answer.
  FusedStep(const ModelShape& shape, int threads, Precision precision = Precision::fp32);
  FusedStep(const FusedStep&) = delete;
  FusedStep& operator=(const FusedStep&) = delete;
  ~FusedStep();

  /// Adds the gradient of `scale` times the mean cross-entropy over images and pixels to `gradients`; returns the mean,
  /// in nats per pixel.
  double generative(std::span<const uint8_t> tokens, std::span<const float> weights, float scale,
                    std::span<float> gradients);

  /// The same for the classifier on the pooled features: `labels` (B) in [0, C); returns nats per image. With a
  /// `generative_weight` both losses in one pass: that of the classes and so many times the generative one (Chen et al.
  /// 2020, section 2.3).
  double classifier(std::span<const uint8_t> tokens, std::span<const int64_t> labels, std::span<const float> weights,
                    float scale, std::span<float> gradients, float generative_weight = 0);

  /// Sum over the pixels of each image's cross-entropy, (B) nats.
  void nats(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<double> nats_of_images);

  /// (B, C)
  void class_logits(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<float> logits);

  /// (B, S, V)
  void logits(std::span<const uint8_t> tokens, std::span<const float> weights, std::span<float> logits);

  const ModelShape& shape() const;
  int threads() const;
  const char* target() const;  ///< the vector instructions in use, as Highway names them

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace igpt::ops::cpu
