#include "src/ops/cuda/sampler.h"

#include "src/ops/cuda/block_arguments.cuh"
#include "src/ops/cuda/model_sizes.h"
#include "src/ops/cuda/sampler.cuh"

namespace igpt::ops::cuda {
namespace {

template <int kHeadDim>
const char* launch(SamplerArguments arguments, int64_t images, void* stream) {
  simt::Limits limits;
  if (const char* cause = simt::limits(limits)) return cause;
  const int embed = arguments.sizes.embed;
  int64_t bytes = sampler_bytes(embed, arguments.sizes.vocab, kHeadDim);
  const int64_t with_cache = bytes + int64_t{4} * arguments.layers * arguments.sizes.length * cache_row(embed, true);
  arguments.cache_in_shared = with_cache <= limits.shared_bytes;
  if (arguments.cache_in_shared) bytes = with_cache;
  return simt::launch({{images}, kSamplerThreads, static_cast<int>(bytes), stream}, sample_images<kHeadDim>, arguments);
}

}  // namespace

int sampler_shared_bytes(const ModelShape& s) {
  return sampler_bytes(static_cast<int>(s.embed_dim), static_cast<int>(s.num_vocab), static_cast<int>(s.head_dim()));
}

const char* sample(const Sampler& a, void* stream) {
  const ModelShape& s = a.shape;
  if (!has_kernels(s, a.images)) return "there is no kernel for these sizes";
  const ParameterTable at(s);
  const EmbeddingSizes embedding(s, a.images);
  const SamplerArguments arguments{embedding,
                                   static_cast<int>(s.num_heads),
                                   static_cast<int>(s.num_layers),
                                   static_cast<int>(a.given),
                                   s.pre_norm,
                                   s.final_norm,
                                   /*cache_in_shared=*/false,
                                   1.0 / a.options.temperature,
                                   a.options.top_p,
                                   a.options.top_k,
                                   a.options.seed,
                                   simt::device_ptr(a.weights + embedding.first_table(at)),
                                   simt::device_ptr(a.weights + at.position_embeddings),
                                   block_on_device(a.weights + at.blocks.front().ln_1_weight, s.embed_dim),
                                   at.block_count(),
                                   simt::device_ptr(a.weights + at.ln_f_weight),
                                   simt::device_ptr(a.weights + at.head),
                                   simt::device_ptr(a.streams),
                                   simt::device_ptr(a.tokens),
                                   simt::device_ptr(a.cache),
                                   simt::device_ptr(a.faults),
                                   simt::device_ptr(a.logits)};
  if (s.head_dim() == 8) return launch<8>(arguments, a.images, stream);
  if (s.head_dim() == 16) return launch<16>(arguments, a.images, stream);
  return launch<32>(arguments, a.images, stream);
}

}  // namespace igpt::ops::cuda
