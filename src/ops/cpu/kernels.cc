#include "src/ops/cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/ops/cpu/kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "src/ops/cpu/block-inl.h"
#include "src/ops/cpu/ends-inl.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {
namespace {

template <class Sizes>
void features(const PackedWeights& weights, const uint8_t* tokens, Workspace& work) {
  const Sizes sizes(weights.layout);
  embed(weights, tokens, work.x);
  for (size_t l = 0; l < weights.blocks.size(); ++l) block_forward(sizes, weights.blocks[l], work.blocks[l], work);
}

template <class Sizes>
void features_backward(const PackedWeights& weights, const uint8_t* tokens, Workspace& work, Gradients& g) {
  const Sizes sizes(weights.layout);
  for (size_t l = weights.blocks.size(); l-- > 0;)
    block_backward(sizes, weights.blocks[l], work.blocks[l], work, g.blocks[l]);
  embed_backward(weights.layout, tokens, work.x, g);
}

using Default = FixedSizes<16, 2>;

void forward(const PackedWeights& weights, const uint8_t* tokens, Workspace& work) {
  Default::fits(weights.layout) ? features<Default>(weights, tokens, work) : features<AnySizes>(weights, tokens, work);
}

void backward(const PackedWeights& weights, const uint8_t* tokens, Workspace& work, Gradients& g) {
  Default::fits(weights.layout) ? features_backward<Default>(weights, tokens, work, g)
                                : features_backward<AnySizes>(weights, tokens, work, g);
}

double generative(const PackedWeights& weights, const uint8_t* tokens, float scale, Workspace& work, Gradients& g) {
  forward(weights, tokens, work);
  const double nats = head_forward_backward(weights, tokens, scale, work, g);
  backward(weights, tokens, work, g);
  return nats;
}

double classifier(const PackedWeights& weights, const uint8_t* tokens, int64_t label, float scale, Workspace& work,
                  Gradients& g) {
  forward(weights, tokens, work);
  const double nats = classifier_forward_backward(weights, label, scale, work, g);
  backward(weights, tokens, work, g);
  return nats;
}

double nats(const PackedWeights& weights, const uint8_t* tokens, Workspace& work) {
  forward(weights, tokens, work);
  return head_forward(weights, tokens, work);
}

void class_logits(const PackedWeights& weights, const uint8_t* tokens, Workspace& work, float* logits) {
  forward(weights, tokens, work);
  class_logits_of_image(weights, work.x, logits);
}

void logits(const PackedWeights& weights, const uint8_t* tokens, Workspace& work, float* logits) {
  forward(weights, tokens, work);
  logits_of_image(weights, work, logits);
}

}  // namespace

const ImageKernels& kernels_of_target() {
  static const ImageKernels kernels{hwy::TargetName(HWY_TARGET), N, generative, classifier, nats, class_logits, logits};
  return kernels;
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace igpt::ops::cpu {

HWY_EXPORT(kernels_of_target);

const ImageKernels& image_kernels() {
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  return HWY_DYNAMIC_DISPATCH(kernels_of_target)();
}

}  // namespace igpt::ops::cpu
#endif
