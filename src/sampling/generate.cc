#include "igpt/sampling/generate.h"

#include <algorithm>
#include <string>

#include "igpt/backend/backend.h"
#include "igpt/error.h"
#include "igpt/sampling/philox.h"

namespace igpt::sampling {
namespace {

using torch::Tensor;

constexpr int64_t kImages = 1024;  // that a device draws at a time, at most

Tensor checked_context(const ImageGPT& model, const Tensor& context, size_t streams) {
  const auto& options = model->options();
  if (context.dim() != 2 || context.size(1) > options.sequence_length() || c10::isFloatingType(context.scalar_type()))
    throw InputError("the context must be (N, s) tokens with s at most " + std::to_string(options.sequence_length()));
  if (context.size(0) != static_cast<int64_t>(streams)) throw InputError("every image needs its own random stream");
  const auto tokens = context.to(torch::kCPU, torch::kInt64).contiguous();
  if (tokens.numel() > 0 && (tokens.min().item<int64_t>() < 0 || tokens.max().item<int64_t>() >= options.num_vocab))
    throw InputError("the context has tokens outside the model's palette of " + std::to_string(options.num_vocab));
  return tokens;
}

void check_classes(const ImageGPT& model, const std::vector<int64_t>& classes, size_t images) {
  const ops::ModelShape& shape = model->shape();
  if (classes.size() != (shape.conditional ? images : 0))
    throw InputError(shape.conditional ? "every image needs a class" : "the model does not draw images of a class");
  for (const int64_t label : classes)
    if (label < 0 || label >= shape.num_classes)
      throw InputError("there is no class " + std::to_string(label) + "; the model has " +
                       std::to_string(shape.num_classes) + " classes");
}

}  // namespace

backend::DrawToken draw_with(const ops::SamplingOptions& options, const std::vector<uint64_t>& streams) {
  return [&](int64_t image, int64_t position, std::span<const float> logits) {
    const uint64_t stream = streams[static_cast<size_t>(image)];
    return draw(logits, options, uniform(static_cast<uint64_t>(options.seed), stream, static_cast<uint64_t>(position)));
  };
}

Tensor generate(const ImageGPT& model, const Tensor& context, const std::vector<uint64_t>& streams,
                const ops::SamplingOptions& options, const DrawnCallback& drawn, bool bf16,
                const std::vector<int64_t>& classes) {
  check(options);
  check_classes(model, classes, streams.size());
  backend::Generation generation(checked_context(model, context, streams.size()), model->options().sequence_length(),
                                 streams, classes, options, draw_with(options, streams), drawn);
  const int64_t images = std::clamp<int64_t>(generation.images(), 1, kImages);
  backend::make_backend(model, {.images = images, .bf16 = bf16 && model->device().is_cpu()})->sample(generation);
  return generation.tokens();
}

}  // namespace igpt::sampling
