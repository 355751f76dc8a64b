// Chooses and launches the kernels around attention. Compiled by nvcc for the device, and by the tests for the
// emulator.

#include "src/ops/cuda/block.h"

#include <algorithm>

#include "src/ops/cuda/layer_norm_qkv.cuh"
#include "src/ops/cuda/mlp_block.cuh"
#include "src/ops/cuda/with_embed.h"

namespace igpt::ops::cuda {
namespace {

DeviceSizes on_device(const BlockSizes& sizes, int64_t tiles_of_block) {
  return {sizes.tokens, sizes.embed, sizes.pre_norm, static_cast<int>(tiles_of_block), block_floats(sizes.embed)};
}

Parts parts(const BlockSizes& sizes) {
  return with_embed(sizes.embed, [&](auto embed) { return Parts(sizes.tokens, tokens_of_tile<embed()>); });
}

/// Launches `kernel` with a block for each tile, or for each of the parts.
template <class Kernel, class Arguments>
const char* launch(const BlockSizes& sizes, int64_t blocks, int (*bytes)(int, int), int tokens, void* stream,
                   Kernel kernel, const Arguments& arguments) {
  const simt::Config config{{blocks}, kDenseThreads, bytes(tokens, sizes.embed), stream};
  return simt::launch(config, kernel, arguments);
}

constexpr const char* kNoKernel = "there is no kernel for these sizes";

}  // namespace

int64_t block_floats(int64_t embed) {
  int64_t count = 0;
  BlockParameters<char> block;
  for_each_parameter(block, embed, [&](const char*, char&, int64_t rows, int64_t columns) {
    count += rows * std::max<int64_t>(columns, 1);
  });
  return count;
}

int64_t block_parts(const BlockSizes& sizes) {
  return parts(sizes).count;
}

int block_shared_bytes(const BlockSizes& sizes) {
  return with_embed(sizes.embed, [&](auto embed) {
    constexpr int kTokens = tokens_of_tile<embed()>;
    return std::max({qkv_forward_bytes(kTokens, sizes.embed), mlp_forward_bytes(kTokens, sizes.embed),
                     mlp_backward_bytes(kTokens, sizes.embed), qkv_backward_bytes(kTokens, sizes.embed)});
  });
}

const char* qkv_forward(const QkvForward& a, void* stream) {
  if (!block_supports(a.sizes)) return kNoKernel;
  const QkvForwardArguments arguments{on_device(a.sizes, 1), block_on_device(a.weights, a.sizes.embed),
                                      simt::device_ptr(a.x), simt::device_ptr(a.qkv)};
  return with_embed(a.sizes.embed, [&](auto embed) {
    constexpr int kTokens = tokens_of_tile<embed()>;
    return launch(a.sizes, (a.sizes.tokens + kTokens - 1) / kTokens, qkv_forward_bytes, kTokens, stream,
                  layer_norm_qkv_forward<embed()>, arguments);
  });
}

const char* mlp_forward(const MlpForward& a, void* stream) {
  if (!block_supports(a.sizes)) return kNoKernel;
  const MlpForwardArguments arguments{on_device(a.sizes, 1),   block_on_device(a.weights, a.sizes.embed),
                                      simt::device_ptr(a.x),   simt::device_ptr(a.attended),
                                      simt::device_ptr(a.mid), simt::device_ptr(a.out)};
  return with_embed(a.sizes.embed, [&](auto embed) {
    constexpr int kTokens = tokens_of_tile<embed()>;
    return launch(a.sizes, (a.sizes.tokens + kTokens - 1) / kTokens, mlp_forward_bytes, kTokens, stream,
                  mlp_block_forward<embed()>, arguments);
  });
}

const char* mlp_backward(const MlpBackward& a, void* stream) {
  if (!block_supports(a.sizes)) return kNoKernel;
  const Parts part = parts(a.sizes);
  const MlpBackwardArguments arguments{on_device(a.sizes, part.tiles_of_block),
                                       block_on_device(a.weights, a.sizes.embed),
                                       block_on_device(a.sums, a.sizes.embed),
                                       simt::device_ptr(a.mid),
                                       simt::device_ptr(a.attended),
                                       simt::device_ptr(a.d_out),
                                       simt::device_ptr(a.d_mid),
                                       simt::device_ptr(a.d_attended)};
  return with_embed(a.sizes.embed, [&](auto embed) {
    return launch(a.sizes, part.count, mlp_backward_bytes, tokens_of_tile<embed()>, stream, mlp_block_backward<embed()>,
                  arguments);
  });
}

const char* qkv_backward(const QkvBackward& a, void* stream) {
  if (!block_supports(a.sizes)) return kNoKernel;
  const Parts part = parts(a.sizes);
  const QkvBackwardArguments arguments{on_device(a.sizes, part.tiles_of_block),
                                       block_on_device(a.weights, a.sizes.embed),
                                       block_on_device(a.sums, a.sizes.embed),
                                       simt::device_ptr(a.x),
                                       simt::device_ptr(a.d_qkv),
                                       simt::device_ptr(a.d_mid),
                                       simt::device_ptr(a.dx)};
  return with_embed(a.sizes.embed, [&](auto embed) {
    return launch(a.sizes, part.count, qkv_backward_bytes, tokens_of_tile<embed()>, stream,
                  layer_norm_qkv_backward<embed()>, arguments);
  });
}

}  // namespace igpt::ops::cuda
