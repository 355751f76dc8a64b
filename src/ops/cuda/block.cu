// Launches the kernels around attention. Compiled by nvcc for the device, and by the tests for the emulator.

#include "src/ops/cuda/block.h"

#include <algorithm>

#include "src/ops/cuda/out_proj_mlp.cuh"
#include "src/ops/cuda/qkv.cuh"

namespace igpt::ops::cuda {

BlockSizes::BlockSizes(const ModelShape& shape, int64_t all_tokens)
    : tokens(all_tokens),
      embed(static_cast<int>(shape.embed_dim)),
      pre_norm(shape.pre_norm),
      rms_norm(shape.rms_norm),
      quick_gelu(shape.quick_gelu),
      tiles_of_part(static_cast<int>(cuda::tiles_of_part(tokens, embed))) {
  BlockParameters<char> unused;
  const auto add = [&](const char*, char&, int64_t rows, int64_t columns) {
    parameters += rows * std::max<int64_t>(columns, 1);
  };
  for_each_parameter(unused, shape, add);
}

int block_shared_bytes(int embed) {
  return std::max({qkv_forward_bytes(embed), out_proj_mlp_forward_bytes(embed), out_proj_mlp_backward_bytes(embed),
                   qkv_backward_bytes(embed)});
}

const char* qkv_forward(const QkvForward& a, void* stream) {
  if (!dense_supports(a.sizes.tokens, a.sizes.embed)) return kNoKernel;
  const simt::Config config{
      {tiles_of(a.sizes.tokens, a.sizes.embed)}, kDenseThreads, qkv_forward_bytes(a.sizes.embed), stream};
  return with_embed(a.sizes.embed, [&](auto fixed) { return simt::launch(config, qkv_forward_kernel<fixed()>, a); });
}

const char* out_proj_mlp_forward(const OutProjMlpForward& a, void* stream) {
  if (!dense_supports(a.sizes.tokens, a.sizes.embed)) return kNoKernel;
  const simt::Config config{
      {tiles_of(a.sizes.tokens, a.sizes.embed)}, kDenseThreads, out_proj_mlp_forward_bytes(a.sizes.embed), stream};
  return with_embed(a.sizes.embed,
                    [&](auto fixed) { return simt::launch(config, out_proj_mlp_forward_kernel<fixed()>, a); });
}

const char* out_proj_mlp_backward(const OutProjMlpBackward& a, void* stream) {
  if (!dense_supports(a.sizes.tokens, a.sizes.embed)) return kNoKernel;
  const simt::Config config{
      {parts_of(a.sizes.tokens, a.sizes.embed)}, kDenseThreads, out_proj_mlp_backward_bytes(a.sizes.embed), stream};
  return with_embed(a.sizes.embed,
                    [&](auto fixed) { return simt::launch(config, out_proj_mlp_backward_kernel<fixed()>, a); });
}

const char* qkv_backward(const QkvBackward& a, void* stream) {
  if (!dense_supports(a.sizes.tokens, a.sizes.embed)) return kNoKernel;
  const simt::Config config{
      {parts_of(a.sizes.tokens, a.sizes.embed)}, kDenseThreads, qkv_backward_bytes(a.sizes.embed), stream};
  return with_embed(a.sizes.embed, [&](auto fixed) { return simt::launch(config, qkv_backward_kernel<fixed()>, a); });
}

}  // namespace igpt::ops::cuda
