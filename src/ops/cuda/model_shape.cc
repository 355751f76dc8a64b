#include "src/ops/cuda/model_sizes.h"

#include <algorithm>
#include <cmath>

#include "src/ops/cuda/muon.h"
#include "src/ops/cuda/sampler.h"

namespace igpt::ops::cuda {
namespace {

/// The shared memory of a block, in the kernel that needs most. Batches and Adam need 2 KB at most, whatever the model.
int shared_bytes(const ModelShape& shape, const ModelSizes& sizes, const simt::Limits& device) {
  const auto of_attention = [&](AttentionPrecision precision) {
    return attention_shared_bytes(sizes.attention, precision);
  };
  return std::max({embedding_shared_bytes(sizes.embedding), block_shared_bytes(sizes.block.embed),
                   device.bf16_tensor_cores
                       ? std::max(of_attention(AttentionPrecision::bf16x3), of_attention(AttentionPrecision::bf16))
                       : of_attention(AttentionPrecision::fp32),
                   head_shared_bytes(sizes.head), classifier_shared_bytes(sizes.classifier),
                   sampler_shared_bytes(shape)});
}

}  // namespace

ModelSizes::ModelSizes(const ModelShape& s, int64_t images)
    : embedding(s, images),
      block(s, images * s.sequence_length),
      attention(images, s.num_heads, s.sequence_length, s.head_dim(),
                static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_dim())))),
      head(images, embedding.length, embedding.embed, embedding.vocab, s.final_norm, s.rms_norm),
      classifier(images, embedding.length, embedding.embed, static_cast<int>(s.num_classes), s.final_norm, s.rms_norm,
                 s.classifier_bias),
      convolution(s, images),
      tables(s) {}

bool has_kernels(const ModelShape& s, int64_t images) {
  constexpr int64_t kMostLayers = 1024, kMost = 1 << 24;
  for (const int64_t size :
       {s.embed_dim, s.sequence_length, s.num_vocab, s.num_classes, s.neighbours, s.table_rank, s.conv_taps, images})
    if (size < 0 || size > kMost) return false;
  if (s.num_heads <= 0 || s.embed_dim % s.num_heads != 0 || s.num_layers <= 0 || s.num_layers > kMostLayers)
    return false;
  const ModelSizes sizes(s, images);
  return embedding_supports(sizes.embedding) && dense_supports(sizes.block.tokens, sizes.block.embed) &&
         convolution_supports(sizes.convolution) && token_tables_support(sizes.tables) &&
         attention_supports(sizes.attention) && head_supports(sizes.head, kMostTokens) &&
         head_supports(sizes.classifier, kMostClasses);
}

bool model_supports(const ModelShape& s, int64_t images, const simt::Limits& device) {
  return has_kernels(s, images) && shared_bytes(s, ModelSizes(s, images), device) <= device.shared_bytes;
}

bool muon_supports(const ModelShape& s, const simt::Limits& device) {
  return muon_shared_bytes(static_cast<int>(s.embed_dim)) <= device.shared_bytes;
}

}  // namespace igpt::ops::cuda
