#include "src/ops/cuda/model_shape.h"

#include <algorithm>

#include "src/ops/cuda/attention.h"
#include "src/ops/cuda/head.h"
#include "src/ops/cuda/sampler.h"

namespace igpt::ops::cuda {
namespace {

AttentionSizes attention(const ModelShape& s, int64_t images) {
  return {images, s.heads, s.length, s.head_dim()};
}
HeadSizes tokens(const ModelShape& s, int64_t images) {
  return {images, s.length, s.embed, s.vocab, s.final_norm};
}
HeadSizes classes(const ModelShape& s, int64_t images) {
  return {images, s.length, s.embed, s.classes, s.final_norm};
}

/// A block's, of the kernel that needs most. Batches and Adam need 2 KB at most, whatever the model.
int shared_bytes(const ModelShape& s, int64_t images, const simt::Limits& device) {
  const auto of_attention = [&](AttentionPrecision precision) {
    return attention_shared_bytes(attention(s, images), precision);
  };
  return std::max({embedding_shared_bytes(s.embedding(images)), block_shared_bytes({images * s.length, s.embed}),
                   device.bf16_tensor_cores
                       ? std::max(of_attention(AttentionPrecision::split_bf16), of_attention(AttentionPrecision::bf16))
                       : of_attention(AttentionPrecision::fp32),
                   head_shared_bytes(tokens(s, images)), classifier_shared_bytes(classes(s, images)),
                   sampler_shared_bytes(s)});
}

}  // namespace

bool has_kernels(const ModelShape& s, int64_t images) {
  constexpr int64_t kMostLayers = 1024;
  return s.heads > 0 && s.embed % s.heads == 0 && s.layers > 0 && s.layers <= kMostLayers &&
         embedding_supports(s.embedding(images)) && block_supports({images * s.length, s.embed}) &&
         attention_supports(attention(s, images)) && head_supports(tokens(s, images), kMostTokens) &&
         head_supports(classes(s, images), kMostClasses);
}

bool model_supports(const ModelShape& s, int64_t images, const simt::Limits& device) {
  return has_kernels(s, images) && shared_bytes(s, images, device) <= device.shared_bytes;
}

}  // namespace igpt::ops::cuda
