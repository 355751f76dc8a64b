#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "igpt/model/options.h"
#include "igpt/ops/cpu/fused_step.h"

namespace igpt {

/// A small Image GPT as one operation on the CPU (igpt/ops/cpu/fused_step.h), for the parameters of the ordinary
/// modules: `parameters` are those of ImageGPT::parameters(), fp32 on the CPU. Views of one flat buffer (training::
/// FlatAdam) are used where they are, others are copied together. `x` is (B, S) tokens of an integer dtype. Throws
/// igpt::Error on shapes that do not fit and igpt::InputError on a token or label out of range.
class FusedModel {
 public:
  /// Whether there are kernels for the model on the device, and ops::kernels() is not `reference`.
  static bool supports(const ImageGPTOptions& options, c10::Device device);

  /// What to compute in where bf16 is asked for or not: bf16 takes AMX (or emulation, see ops::kernels()). Without it
  /// fp32 is faster; then `note` says so in one line. Throws igpt::UsageError where emulation is asked for and not
  /// possible.
  static ops::cpu::Precision precision(const ImageGPTOptions& options, bool bf16, std::string* note = nullptr);

  /// On `threads` threads, or as many as LibTorch uses (0).
  explicit FusedModel(const ImageGPTOptions& options, int threads = 0,
                      ops::cpu::Precision precision = ops::cpu::Precision::fp32);

  /// Mean cross-entropy in nats per pixel, a scalar. Differentiable once: the gradients are computed with it, when
  /// gradients are enabled and a parameter requires them.
  at::Tensor generative_loss(const at::Tensor& x, at::TensorList parameters);

  /// Mean cross-entropy of the classes y (B) int64, in nats per image; differentiable likewise.
  at::Tensor classifier_loss(const at::Tensor& x, const at::Tensor& y, at::TensorList parameters);

  /// The same losses without autograd: the gradients of `scale` times the mean are added to the parameters' `.grad()`,
  /// which must be there. A classifier's may have `generative_weight` times the generative one in it.
  double add_generative_gradients(const at::Tensor& x, at::TensorList parameters, double scale = 1);
  double add_classifier_gradients(const at::Tensor& x, const at::Tensor& y, at::TensorList parameters, double scale = 1,
                                  double generative_weight = 0);

  at::Tensor nats_per_image(const at::Tensor& x, at::TensorList parameters);  ///< (B) float64, sums over the pixels
  at::Tensor class_logits(const at::Tensor& x, at::TensorList parameters);    ///< (B, C)
  at::Tensor logits(const at::Tensor& x, at::TensorList parameters);          ///< (B, S, V)

  const char* vectors() const { return step_->target(); }  ///< the instructions in use, for example AVX3

 private:
  struct Loss;

  at::Tensor tokens(const at::Tensor& x) const;              // (B, S) uint8, contiguous
  std::vector<size_t> unused(bool classify) const;           // the parameters that the loss does not depend on
  at::Tensor flat_weights(at::TensorList parameters) const;  // (P)
  double step(const at::Tensor& x, const at::Tensor& y, at::TensorList parameters, double scale,
              double generative_weight, const at::Tensor& gradients);
  double add_gradients(const at::Tensor& x, const at::Tensor& y, at::TensorList parameters, double scale,
                       double generative_weight = 0);
  at::Tensor loss(const at::Tensor& x, const at::Tensor& y, at::TensorList parameters);

  std::vector<std::vector<int64_t>> sizes_;  // of the parameters
  std::unique_ptr<ops::cpu::FusedStep> step_;
};

}  // namespace igpt
