#include "igpt/sampling/generate.h"

#include <atomic>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "igpt/error.h"
#include "igpt/sampling/philox.h"

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

class Generation {
 public:
  Generation(const ImageGPT& model, const Tensor& context, const std::vector<uint64_t>& streams,
             const SamplingOptions& options, const DrawnCallback& drawn)
      : model_(model), streams_(streams), options_(options), drawn_(drawn), given_(context.size(1)) {
    const int64_t length = model->options().sequence_length();
    tokens_ = torch::zeros({context.size(0), length}, torch::kInt64);
    tokens_.narrow(1, 0, given_).copy_(context);
    on_cpu_ = model->sos.device().is_cpu();
    chunk_ = on_cpu_ ? chunk_on_cpu : chunk_on_cuda;
  }

  Tensor run() {
    const int64_t images = tokens_.size(0), chunks = (images + chunk_ - 1) / chunk_;
    if (given_ == tokens_.size(1)) return tokens_;
    const auto work = [&] {
      try {
        for (int64_t chunk; !stopped_ && (chunk = next_chunk_++) < chunks;)
          draw_chunk(chunk * chunk_, std::min(chunk_, images - chunk * chunk_));
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!stopped_.exchange(true)) error_ = std::current_exception();
      }
    };
    if (on_cpu_)
      on_threads(std::min<int64_t>(at::get_num_threads(), chunks), work);
    else
      work();
    if (error_) std::rethrow_exception(error_);
    return tokens_;
  }

 private:
  // Within an operation there is one thread: how LibTorch splits the work would be seen in the rounding.
  static void on_threads(int64_t count, const std::function<void()>& work) {
    const int before = at::get_num_threads();
    {
      std::vector<std::jthread> threads;
      for (int64_t i = 0; i < count; ++i)
        threads.emplace_back([&] {
          at::set_num_threads(1);
          work();
        });
    }
    at::set_num_threads(before);
  }

  void draw_chunk(int64_t first, int64_t count) {
    const c10::InferenceMode no_gradients;
    KeyValueCache cache = model_->make_cache(chunk_);
    const int64_t length = tokens_.size(1);
    auto* tokens = tokens_.data_ptr<int64_t>();
    auto previous = torch::zeros({chunk_}, torch::kInt64);
    for (int64_t position = 0; position < length && !stopped_; ++position) {
      if (position > 0)
        for (int64_t i = 0; i < count; ++i)
          previous.data_ptr<int64_t>()[i] = tokens[(first + i) * length + position - 1];
      const auto logits = model_->decode(previous.to(model_->sos.device()), position, cache);  // (chunk, V)
      if (position < given_) continue;
      draw_pixel(logits.to(torch::kCPU, torch::kFloat32).contiguous(), first, count, position);
      if (!drawn_) continue;
      const std::lock_guard lock(mutex_);
      if (!stopped_) drawn_({first, count, position, tokens_});
    }
  }

  void draw_pixel(const Tensor& logits, int64_t first, int64_t count, int64_t position) {
    const auto vocab = static_cast<size_t>(logits.size(1));
    for (int64_t i = 0; i < count; ++i) {
      const double u = uniform(static_cast<uint64_t>(options_.seed), streams_[static_cast<size_t>(first + i)],
                               static_cast<uint64_t>(position));
      const std::span<const float> row(logits.data_ptr<float>() + i * logits.size(1), vocab);
      tokens_.data_ptr<int64_t>()[(first + i) * tokens_.size(1) + position] = draw(row, options_, u);
    }
  }

  ImageGPT model_;
  const std::vector<uint64_t>& streams_;
  const SamplingOptions& options_;
  const DrawnCallback& drawn_;
  int64_t given_, chunk_ = 0;
  bool on_cpu_ = true;
  Tensor tokens_;  // (N, S)

  std::atomic<int64_t> next_chunk_{0};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;  // of error_ and the callback
  std::exception_ptr error_;
};

}  // namespace

Tensor generate(const ImageGPT& model, const Tensor& context, const std::vector<uint64_t>& streams,
                const SamplingOptions& options, const DrawnCallback& drawn) {
  check(options);
  return Generation(model, checked_context(model, context, streams.size()), streams, options, drawn).run();
}

}  // namespace igpt::sampling
