#include "src/ops/cuda/head.h"

#include "src/ops/cuda/cross_entropy.cuh"
#include "src/ops/cuda/with_embed.h"

namespace igpt::ops::cuda {
namespace {

Parts parts(const HeadSizes& s) {
  return with_embed(s.embed, [&](auto embed) { return Parts(s.tokens(), tokens_of_tile<embed()>); });
}

}  // namespace

int64_t head_parts(const HeadSizes& sizes) {
  return parts(sizes).count;
}

int head_shared_bytes(const HeadSizes& s) {
  return with_embed(s.embed, [&](auto embed) { return head_bytes(tokens_of_tile<embed()>, s.embed, s.outputs); });
}

int classifier_shared_bytes(const HeadSizes& s) {
  return classifier_bytes(s.embed, s.outputs);
}

const char* head(const Head& a, void* stream) {
  if (!head_supports(a.sizes, kMostTokens)) return "there is no kernel for these sizes";
  const auto norm = simt::device_ptr(a.sizes.final_norm ? a.norm : nullptr);
  const auto norm_sums = simt::device_ptr(a.sizes.final_norm ? a.sums : nullptr);
  const Parts part = parts(a.sizes);
  const int embed = a.sizes.embed, vocab = a.sizes.outputs;
  const HeadArguments arguments{a.sizes.tokens(),
                                embed,
                                vocab,
                                a.sizes.final_norm,
                                static_cast<int>(part.tiles_of_block),
                                head_sums(a.sizes),
                                a.scale,
                                norm,
                                norm + embed,
                                simt::device_ptr(a.weight),
                                simt::device_ptr(a.x),
                                simt::device_ptr(a.tokens),
                                simt::device_ptr(a.nats),
                                simt::device_ptr(a.logits),
                                simt::device_ptr(a.dx),
                                norm_sums,
                                norm_sums + embed,
                                simt::device_ptr(a.sums && a.sizes.final_norm ? a.sums + 2 * embed : a.sums)};
  return with_embed(a.sizes.embed, [&](auto fixed) {
    const simt::Config config{{part.count}, kDenseThreads, head_shared_bytes(a.sizes), stream};
    return simt::launch(config, head_cross_entropy<fixed()>, arguments);
  });
}

const char* classifier(const Classifier& a, void* stream) {
  if (!head_supports(a.sizes, kMostClasses)) return "there is no kernel for these sizes";
  const auto norm = simt::device_ptr(a.sizes.final_norm ? a.norm : nullptr);
  const auto norm_sums = simt::device_ptr(a.sizes.final_norm ? a.sums : nullptr);
  const int embed = a.sizes.embed, classes = a.sizes.outputs;
  float* const weight_sums = a.sums && a.sizes.final_norm ? a.sums + 2 * embed : a.sums;
  const ClassifierArguments arguments{a.sizes.length,
                                      embed,
                                      classes,
                                      a.sizes.final_norm,
                                      a.add_to_dx,
                                      classifier_sums(a.sizes),
                                      a.scale,
                                      norm,
                                      norm + embed,
                                      simt::device_ptr(a.weight),
                                      simt::device_ptr(a.bias),
                                      simt::device_ptr(a.x),
                                      simt::device_ptr(a.labels),
                                      simt::device_ptr(a.nats),
                                      simt::device_ptr(a.logits),
                                      simt::device_ptr(a.dx),
                                      norm_sums,
                                      norm_sums + embed,
                                      simt::device_ptr(weight_sums),
                                      simt::device_ptr(weight_sums ? weight_sums + int64_t{classes} * embed : nullptr)};
  return simt::launch({{a.sizes.images}, kDenseThreads, classifier_shared_bytes(a.sizes), stream}, pooled_classifier,
                      arguments);
}

}  // namespace igpt::ops::cuda
