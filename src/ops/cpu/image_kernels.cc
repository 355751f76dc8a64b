#include "src/ops/cpu/image_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "src/ops/cpu/image_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "src/ops/cpu/block-inl.h"
#include "src/ops/cpu/embed_head-inl.h"
#include "src/ops/cpu/vectors.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {
namespace {

/// Calls call(sizes) with sizes known to the compiler where the model has the default ones.
template <class Call>
HWY_INLINE void with_sizes(const Layout& layout, Call call) {
  using Default = FixedSizes<16, 2, /*kPreNorm=*/false>;
  using DefaultPreNorm = FixedSizes<16, 2, /*kPreNorm=*/true>;
  if (Default::fits(layout))
    call(Default(layout));
  else if (DefaultPreNorm::fits(layout))
    call(DefaultPreNorm(layout));
  else
    call(AnySizes(layout));
}

// A block's parts, in the order of a step.

void qkv(const BlockWeights& w, const BlockActivations& saved, Workspace& work) {
  with_sizes(work.layout, [&](const auto& sizes) { layer_norm_qkv(sizes, w, saved, work); });
}
void attention(const BlockActivations& saved, Workspace& work) {
  with_sizes(work.layout, [&](const auto& sizes) { attention_of_heads(sizes, saved, work); });
}
void out_proj_mlp(const BlockWeights& w, const BlockActivations& saved, Workspace& work) {
  with_sizes(work.layout, [&](const auto& sizes) { HWY_NAMESPACE::out_proj_mlp(sizes, w, saved, work); });
}
void out_proj_mlp_backward(const BlockWeights& w, const BlockActivations& saved, Workspace& work, BlockGradients& g) {
  with_sizes(work.layout, [&](const auto& sizes) { HWY_NAMESPACE::out_proj_mlp_backward(sizes, w, saved, work, g); });
}
void attention_backward(const BlockActivations& saved, Workspace& work) {
  with_sizes(work.layout, [&](const auto& sizes) { attention_of_heads_backward(sizes, saved, work); });
}
void qkv_backward(const BlockWeights& w, const BlockActivations& saved, Workspace& work, BlockGradients& g) {
  with_sizes(work.layout, [&](const auto& sizes) { layer_norm_qkv_backward(sizes, w, saved, work, g); });
}

// The model.

void forward(const PackedWeights& weights, const TokenImage& image, Workspace& work) {
  embed(weights, image, work.x);
  for (size_t l = 0; l < weights.blocks.size(); ++l) {
    qkv(weights.blocks[l], work.blocks[l], work);
    attention(work.blocks[l], work);
    out_proj_mlp(weights.blocks[l], work.blocks[l], work);
  }
  if (weights.layout.shape.final_norm) final_norm(weights, work);
}

void backward(const PackedWeights& weights, const TokenImage& image, Workspace& work, Gradients& g) {
  if (weights.layout.shape.final_norm) final_norm_backward(weights, work, g);
  for (size_t l = weights.blocks.size(); l-- > 0;) {
    out_proj_mlp_backward(weights.blocks[l], work.blocks[l], work, g.blocks[l]);
    attention_backward(work.blocks[l], work);
    qkv_backward(weights.blocks[l], work.blocks[l], work, g.blocks[l]);
  }
  embed_backward(weights.layout, image, work.x, g);
}

double generative(const PackedWeights& weights, const TokenImage& image, float scale, Workspace& work, Gradients& g) {
  forward(weights, image, work);
  const double nats = head_forward_backward(weights, image.tokens, scale, work, g);
  backward(weights, image, work, g);
  return nats;
}

double classifier(const PackedWeights& weights, const TokenImage& image, int64_t label, float scale,
                  float generative_weight, Workspace& work, Gradients& g) {
  const Layout& layout = weights.layout;
  const float of_pixel = generative_weight / static_cast<float>(layout.shape.sequence_length);
  float d_features[128];
  forward(weights, image, work);
  double nats = classifier_forward_backward(weights, label, scale, work, g, d_features);
  if (of_pixel > 0)
    nats += of_pixel * head_forward_backward(weights, image.tokens, scale * of_pixel, work, g);
  else
    std::fill_n(work.x, int64_t{layout.tiles} * layout.embed_rows * N, 0.0f);
  add_to_positions(layout, d_features, work.x);
  backward(weights, image, work, g);
  return nats;
}

double nats(const PackedWeights& weights, const TokenImage& image, Workspace& work) {
  forward(weights, image, work);
  return head_forward(weights, image.tokens, work);
}

void class_logits(const PackedWeights& weights, const TokenImage& image, Workspace& work, float* logits) {
  forward(weights, image, work);
  class_logits_of_image(weights, work.x, logits);
}

void logits(const PackedWeights& weights, const TokenImage& image, Workspace& work, float* logits) {
  forward(weights, image, work);
  logits_of_image(weights, work, logits);
}

void features(const PackedWeights& weights, const TokenImage& image, Workspace& work, double* pooled) {
  const Layout& layout = weights.layout;
  forward(weights, image, work);
  for (size_t l = 0; l < weights.blocks.size(); ++l, pooled += layout.embed) {
    pool(layout, work.blocks[l].normalised_1, pooled);  // gain and shift are the same for all positions
    for (int i = 0; i < layout.embed; ++i)
      pooled[i] = pooled[i] * weights.blocks[l].ln_1_weight[i] + weights.blocks[l].ln_1_bias[i];
  }
  pool(layout, work.x, pooled);
}

}  // namespace

const ImageKernels& kernels_of_target() {
  static const ImageKernels kernels{
      hwy::TargetName(HWY_TARGET),
      N,
      generative,
      classifier,
      nats,
      class_logits,
      logits,
      features,
      {qkv, attention, out_proj_mlp, out_proj_mlp_backward, attention_backward, qkv_backward}};
  return kernels;
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace igpt::ops::cpu {

HWY_EXPORT(kernels_of_target);

const ImageKernels& image_kernels() {
  choose_vectors();
  return HWY_DYNAMIC_DISPATCH(kernels_of_target)();
}

}  // namespace igpt::ops::cpu
#endif
