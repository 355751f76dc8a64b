#include "src/sampling/device_sampling.h"

#include <algorithm>
#include <cstdio>

#include "igpt/error.h"
#include "igpt/ops/flat_parameters.h"
#include "src/model/kernel_shapes.h"

namespace igpt::sampling {
namespace {

using torch::Tensor;

constexpr auto kTask = ops::DeviceTask::sampling;
constexpr int64_t kImages = 1024;  // of a launch
constexpr int64_t kTried = 16;     // of the first one, whose logits are kept and compared
constexpr int64_t kCacheFloats = 1 << 27;

/// Images that are drawn at a time: several for each multiprocessor, with keys and values that fit into memory.
int64_t images_of_launch(const ops::ModelShape& shape) {
  return std::clamp<int64_t>(kCacheFloats / ops::cuda::sampler_cache_floats(shape, 1), 1, kImages);
}

/// Images [first, first + count) of a generation, drawn on the device.
struct DrawnOnDevice {
  Tensor tokens;        ///< (count, S) uint8, on the device
  Tensor logits;        ///< (count, S, V), on the device; undefined where they are not kept
  bool finite = false;  ///< all logits were
};

DrawnOnDevice draw_on_device(const Generation& generation, const ImageGPT& model, const ops::ChosenKernels& chosen,
                             const Tensor& weights, int64_t first, int64_t count, bool keep_logits) {
  const auto& shape = chosen.shape;
  const auto& options = generation.options();
  const auto on_device = torch::TensorOptions(model->device());
  DrawnOnDevice result;
  result.tokens = generation.tokens().narrow(0, first, count).to(on_device.dtype(torch::kUInt8)).contiguous();
  if (keep_logits)
    result.logits = torch::empty({count, shape.sequence_length, shape.num_vocab}, on_device.dtype(torch::kFloat32));
  auto streams = torch::empty({count}, torch::kInt64);
  for (int64_t i = 0; i < count; ++i)
    streams.data_ptr<int64_t>()[i] = static_cast<int64_t>(generation.stream(first + i));
  streams = streams.to(model->device());
  const auto cache = torch::empty({ops::cuda::sampler_cache_floats(shape, count)}, on_device.dtype(torch::kFloat32));
  const auto faults = torch::zeros({count}, on_device.dtype(torch::kInt32));
  ops::cuda::Sampler sampler{shape, count, generation.given()};
  sampler.options = {options.temperature, options.top_k, options.top_p, static_cast<uint64_t>(options.seed)};
  sampler.weights = weights.data_ptr<float>();
  sampler.streams = reinterpret_cast<const uint64_t*>(streams.data_ptr<int64_t>());
  sampler.tokens = result.tokens.data_ptr<uint8_t>();
  sampler.cache = cache.data_ptr<float>();
  sampler.faults = faults.data_ptr<int32_t>();
  sampler.logits = keep_logits ? result.logits.data_ptr<float>() : nullptr;
  (*chosen.kernels)->sample(model->device(), sampler);
  result.finite = !faults.any().item<bool>();
  return result;
}

/// What is wrong beside LibTorch's logits of these images, and beside what draw() takes from the device's; empty:
/// nothing.
std::string fault_of(const DrawnOnDevice& drawn, const Tensor& expected, const Generation& generation) {
  constexpr double kLimit = 1e-3;  // relative, by norm
  const double off = ((drawn.logits - expected).norm() / expected.norm()).item<double>();
  if (!(off <= kLimit)) {
    char text[80];
    std::snprintf(text, sizeof text, "their logits differ from LibTorch's by %.2g", off);
    return text;
  }
  const auto tokens = drawn.tokens.cpu(), logits = drawn.logits.cpu();
  const int64_t length = generation.length(), vocab = logits.size(2);
  for (int64_t i = 0; i < tokens.size(0); ++i)
    for (int64_t at = generation.given(); at < length; ++at) {
      const int64_t place = i * length + at;
      const std::span of_pixel(logits.data_ptr<float>() + place * vocab, static_cast<size_t>(vocab));
      if (tokens.data_ptr<uint8_t>()[place] != generation.drawn_token(i, at, of_pixel))
        return "they draw other tokens from the same logits";
    }
  return "";
}

enum class Outcome { drawn, not_finite, distrusted };

Outcome draw_all(Generation& generation, const ImageGPT& model, const ops::ChosenKernels& chosen,
                 const ops::Note& note) {
  const c10::InferenceMode no_gradients;
  auto& kernels = *chosen.kernels;
  const int64_t images = generation.tokens().size(0);
  const auto weights = ops::concatenated(model->parameters());  // (P)
  for (int64_t first = 0, count = 0; first < images; first += count) {
    const bool trusted = kernels.trusted(kTask);
    count = std::min({images - first, images_of_launch(chosen.shape), trusted ? kImages : kTried});
    const auto drawn = draw_on_device(generation, model, chosen, weights, first, count, /*keep_logits=*/!trusted);
    if (!trusted) {  // the first images of a process
      const auto expected = ImageGPT(model)->forward(drawn.tokens).to(torch::kFloat64);  // (count, S, V)
      if (!expected.isfinite().all().item<bool>()) return Outcome::not_finite;
      const auto fault = fault_of(drawn, expected, generation);
      if (!fault.empty()) {
        kernels.distrust(kTask, fault, note);
        return Outcome::distrusted;
      }
      kernels.trust(kTask);
    }
    if (!drawn.finite) return Outcome::not_finite;
    generation.tokens().narrow(0, first, count).copy_(drawn.tokens);
  }
  return Outcome::drawn;
}

}  // namespace

bool generate_on_device(Generation& generation, const ImageGPT& model, const ops::Note& note) {
  const int64_t images = generation.tokens().size(0), given = generation.given(), length = generation.length();
  const auto chosen =
      ops::choose_kernels(model->device(), device_shape(model->options()), std::min(images, kImages), kTask);
  if (!chosen || given == length) return false;
  Outcome outcome{};
  try {
    outcome = draw_all(generation, model, chosen, note);
  } catch (const std::exception& error) {
    chosen.kernels->distrust(kTask, error.what(), note);
    outcome = Outcome::distrusted;
  }
  if (outcome == Outcome::not_finite) throw LogitsNotFinite();
  if (outcome == Outcome::drawn) generation.tell(/*first=*/0, images, given, length);
  return outcome == Outcome::drawn;
}

}  // namespace igpt::sampling
