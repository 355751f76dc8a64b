#include "igpt/sampling/generate.h"

#include <memory>
#include <string>

#include "igpt/error.h"
#include "igpt/model/fused_model.h"
#include "igpt/ops/cpu/decoder.h"
#include "igpt/ops/flat_parameters.h"
#include "src/model/kernel_shapes.h"
#include "src/sampling/device_sampling.h"
#include "src/sampling/generation.h"

namespace igpt::sampling {
namespace {

using torch::Tensor;

// Images that the model sees at once. Matrices of one size only: another size may be rounded differently, and a draw
// that falls just there would change the rest of the image.
constexpr int64_t chunk_on_cpu = 16, chunk_on_cuda = 64;

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

void draw_chunk(Generation& generation, ImageGPT model, int64_t chunk, int64_t first, int64_t count) {
  const c10::InferenceMode no_gradients;
  KeyValueCache cache = model->make_cache(chunk);
  const auto vocab = static_cast<size_t>(model->options().num_vocab);
  auto previous = torch::zeros({chunk}, torch::kInt64);
  for (int64_t position = 0; position < generation.length() && !generation.stopped(); ++position) {
    if (position > 0)
      for (int64_t i = 0; i < count; ++i) previous.data_ptr<int64_t>()[i] = generation.image(first + i)[position - 1];
    const auto decoded = model->decode(previous.to(model->device()), position, cache);  // (chunk, V)
    if (position < generation.given()) continue;
    const auto logits = decoded.to(torch::kCPU, torch::kFloat32).contiguous();
    for (int64_t i = 0; i < count; ++i)
      generation.draw_pixel(first + i, position, {logits.data_ptr<float>() + i * logits.size(1), vocab});
    generation.tell(first, count, position, position + 1);
  }
}

void generate_with_model(Generation& generation, const ImageGPT& model) {
  const bool on_cpu = model->device().is_cpu();
  const int64_t chunk = on_cpu ? chunk_on_cpu : chunk_on_cuda;
  const int before = at::get_num_threads();
  generation.run(chunk, on_cpu ? before : 0, [&]() -> Generation::Worker {
    if (on_cpu) at::set_num_threads(1);  // how LibTorch splits an operation would be seen in the rounding
    return [&](int64_t first, int64_t count) { draw_chunk(generation, model, chunk, first, count); };
  });
  at::set_num_threads(before);
}

// An image at a time with the decoder.
class ImageByImage {
 public:
  ImageByImage(Generation& generation, const ops::cpu::Decoder& decoder, const ImageGPTOptions& options)
      : generation_(generation),
        decoder_(decoder),
        state_(decoder.make_state()),
        row_(options.num_pixels),
        logits_(static_cast<size_t>(options.num_vocab)) {}

  void draw(int64_t n) {
    int64_t* x = generation_.image(n);
    read_context(x);
    for (int64_t begin = generation_.given(), end; begin < generation_.length() && !generation_.stopped();
         begin = end) {
      end = (begin / row_ + 1) * row_;
      for (int64_t position = begin; position < end; ++position) {
        decoder_.decode(state_, position > 0 ? x[position - 1] : 0, position, logits_);
        generation_.draw_pixel(n, position, logits_);
      }
      generation_.tell(n, 1, begin, end);
    }
  }

 private:
  // The samples of one test image follow each other and have the same context: its keys and values are still there.
  void read_context(const int64_t* x) {
    const int64_t given = generation_.given();
    if (!context_ || !std::equal(x, x + given, context_))
      for (int64_t position = 0; position < given; ++position)
        decoder_.decode(state_, position > 0 ? x[position - 1] : 0, position, {});
    context_ = x;
  }

  Generation& generation_;
  const ops::cpu::Decoder& decoder_;
  ops::cpu::Decoder::State state_;
  int64_t row_;
  std::vector<float> logits_;
  const int64_t* context_ = nullptr;  // what state_ has read: the first given tokens of an image
};

void generate_with_decoder(Generation& generation, const ImageGPT& model) {
  const auto weights = ops::concatenated(model->parameters());  // (P)
  const ops::cpu::Decoder decoder(cpu_shape(model->options()),
                                  {weights.data_ptr<float>(), static_cast<size_t>(weights.numel())});
  generation.run(/*chunk=*/1, at::get_num_threads(), [&]() -> Generation::Worker {
    const auto images = std::make_shared<ImageByImage>(generation, decoder, model->options());
    return [images](int64_t n, int64_t) { images->draw(n); };
  });
}

}  // namespace

Tensor generate(const ImageGPT& model, const Tensor& context, const std::vector<uint64_t>& streams,
                const SamplingOptions& options, const DrawnCallback& drawn,
                const std::function<void(const std::string& line)>& note) {
  check(options);
  Generation generation(checked_context(model, context, streams.size()), model->options().sequence_length(), streams,
                        options, drawn);
  if (generate_on_device(generation, model, note)) return generation.tokens();
  if (FusedModel::supports(model->options(), model->device()))
    generate_with_decoder(generation, model);
  else
    generate_with_model(generation, model);
  return generation.tokens();
}

}  // namespace igpt::sampling
