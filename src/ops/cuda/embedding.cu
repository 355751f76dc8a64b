#include "src/ops/cuda/embedding.h"

#include <algorithm>

#include "src/ops/cuda/embedding.cuh"

namespace igpt::ops::cuda {
namespace {

DeviceEmbedding on_device(const EmbeddingSizes& s) {
  return {s.images * s.length, static_cast<int>(s.length), static_cast<int>(s.embed), static_cast<int>(s.vocab),
          s.neighbours};
}

bool are_earlier(const Neighbourhood& n) {
  for (int k = 0; k < n.count; ++k) {
    const bool earlier = n.down[k] < 0 || (n.down[k] == 0 && n.right[k] < 0);
    if (!earlier) return false;
  }
  return true;
}

/// Tokens of a block in the backward pass.
int64_t tokens_of_part(const EmbeddingSizes& s) {
  constexpr int64_t kFewest = 32;  // below, adding the parts up would be the larger work
  return std::max((s.images * s.length + kMostParts - 1) / kMostParts, kFewest);
}

/// Tables of a block: one for as many threads as it has columns, if they leave room for other blocks.
int slices(const EmbeddingSizes& s) {
  constexpr int64_t kEnough = 24 * 1024;
  const int64_t table = (s.vocab + 1) * s.embed * 4;
  return static_cast<int>(std::max<int64_t>(1, std::min(kDenseThreads / s.embed, kEnough / table)));
}

}  // namespace

bool embedding_supports(const EmbeddingSizes& s) {
  const Neighbourhood& n = s.neighbours;
  const bool shaped = n.side == 0 ? n.count == 1 : int64_t{n.side} * n.side == s.length && are_earlier(n);
  return s.images > 0 && s.length > 0 && s.images * s.length <= (int64_t{1} << 31) && s.length <= (1 << 24) &&
         s.embed >= 4 && s.embed <= 64 && s.embed % 4 == 0 && s.vocab > 0 && s.vocab <= 255 && n.count >= 1 &&
         n.count <= kMostNeighbours && shaped;
}

int64_t embedding_parts(const EmbeddingSizes& s) {
  return (s.images * s.length + tokens_of_part(s) - 1) / tokens_of_part(s);
}

int embedding_shared_bytes(const EmbeddingSizes& s) {
  return static_cast<int>(slices(s) * (s.vocab + 1) * s.embed * 4);
}

const char* embedding_forward(const EmbeddingForward& a, void* stream) {
  if (!embedding_supports(a.sizes)) return "there is no kernel for these sizes";
  const EmbeddingForwardArguments arguments{on_device(a.sizes), simt::device_ptr(a.tables),
                                            simt::device_ptr(a.positions), simt::device_ptr(a.tokens),
                                            simt::device_ptr(a.x)};
  const int64_t fours = a.sizes.images * a.sizes.length * (a.sizes.embed / 4);
  return simt::launch({{(fours + kDenseThreads - 1) / kDenseThreads}, kDenseThreads, 0, stream}, embedding_forward_of,
                      arguments);
}

const char* embedding_backward(const EmbeddingBackward& a, void* stream) {
  if (!embedding_supports(a.sizes)) return "there is no kernel for these sizes";
  const EmbeddingBackwardArguments arguments{on_device(a.sizes),     static_cast<int>(tokens_of_part(a.sizes)),
                                             slices(a.sizes),        simt::device_ptr(a.tokens),
                                             simt::device_ptr(a.dx), simt::device_ptr(a.sums)};
  const simt::Config config{
      {embedding_parts(a.sizes), a.sizes.neighbours.count}, kDenseThreads, embedding_shared_bytes(a.sizes), stream};
  return simt::launch(config, embedding_backward_of, arguments);
}

}  // namespace igpt::ops::cuda
