#include "src/ops/cuda/model_shape.h"

#include "src/ops/cuda/attention.h"
#include "src/ops/cuda/head.h"

namespace igpt::ops::cuda {

bool model_supports(const ModelShape& s, int64_t images) {
  constexpr int64_t kMostLayers = 1024;
  return s.heads > 0 && s.embed % s.heads == 0 && s.layers > 0 && s.layers <= kMostLayers &&
         embedding_supports(s.embedding(images)) && block_supports({images * s.length, s.embed}) &&
         attention_supports({images, s.heads, s.length, s.head_dim()}) &&
         head_supports({images, s.length, s.embed, s.vocab}, kMostTokens) &&
         head_supports({images, s.length, s.embed, s.classes}, kMostClasses);
}

}  // namespace igpt::ops::cuda
