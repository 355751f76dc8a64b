#include "src/ops/cuda/embedding.h"

#include <algorithm>

#include "src/ops/cuda/embedding.cuh"

namespace igpt::ops::cuda {
namespace {

/// Tokens of a block in the backward pass.
int64_t tokens_of_part(const EmbeddingSizes& s) {
  constexpr int64_t kFewest = 32;  // below, adding the parts up would be the larger work
  return std::max((s.tokens + kMostParts - 1) / kMostParts, kFewest);
}

/// Tables of a block: one for as many threads as it has columns, if they leave room for other blocks.
int slices(const EmbeddingSizes& s) {
  constexpr int kEnough = 24 * 1024;
  const int table = (s.vocab + 1) * s.embed * 4;
  return std::max(1, std::min(kDenseThreads / s.embed, kEnough / table));
}

}  // namespace

EmbeddingSizes::EmbeddingSizes(const ModelShape& shape, int64_t images)
    : tokens(images * shape.sequence_length),
      length(static_cast<int>(shape.sequence_length)),
      embed(static_cast<int>(shape.embed_dim)),
      vocab(static_cast<int>(shape.num_vocab)),
      neighbours(static_cast<int>(shape.neighbours)),
      side(static_cast<int>(shape.side())) {
  int k = 0;
  for (const Neighbour& at : neighbourhood(std::min(shape.neighbours, kMostNeighbours))) {
    down[k] = static_cast<int8_t>(at.down);
    right[k++] = static_cast<int8_t>(at.right);
  }
}

bool embedding_supports(const EmbeddingSizes& s) {
  return s.tokens > 0 && s.tokens <= (int64_t{1} << 31) && s.length > 0 && s.length <= (1 << 24) && s.embed >= 4 &&
         s.embed <= 64 && s.embed % 4 == 0 && s.vocab > 0 && s.vocab <= 255 && s.neighbours >= 0 &&
         s.neighbours <= kMostNeighbours && (s.neighbours == 0 || s.side * s.side == s.length);
}

int64_t embedding_parts(const EmbeddingSizes& s) {
  return (s.tokens + tokens_of_part(s) - 1) / tokens_of_part(s);
}

int embedding_shared_bytes(const EmbeddingSizes& s) {
  return slices(s) * (s.vocab + 1) * s.embed * 4;
}

const char* embedding_forward(const EmbeddingForward& a, void* stream) {
  if (!embedding_supports(a.sizes)) return "there is no kernel for these sizes";
  const EmbeddingForwardArguments arguments{a.sizes, simt::device_ptr(a.tables), simt::device_ptr(a.positions),
                                            simt::device_ptr(a.tokens), simt::device_ptr(a.x)};
  const int64_t fours = a.sizes.tokens * (a.sizes.embed / 4);
  return simt::launch({{(fours + kDenseThreads - 1) / kDenseThreads}, kDenseThreads, 0, stream}, embedding_forward_of,
                      arguments);
}

const char* embedding_backward(const EmbeddingBackward& a, void* stream) {
  if (!embedding_supports(a.sizes)) return "there is no kernel for these sizes";
  const EmbeddingBackwardArguments arguments{a.sizes,
                                             static_cast<int>(tokens_of_part(a.sizes)),
                                             slices(a.sizes),
                                             a.sizes.tables(),
                                             simt::device_ptr(a.tokens),
                                             simt::device_ptr(a.dx),
                                             simt::device_ptr(a.sums)};
  const simt::Config config{
      {embedding_parts(a.sizes), a.sizes.tables()}, kDenseThreads, embedding_shared_bytes(a.sizes), stream};
  return simt::launch(config, embedding_backward_of, arguments);
}

}  // namespace igpt::ops::cuda
