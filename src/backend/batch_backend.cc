#include <ATen/Parallel.h>
#include <malloc.h>

#include "igpt/backend/backend.h"
#include "igpt/backend/machine.h"
#include "igpt/ops/cpu/batch_decoder.h"

namespace igpt::backend {
namespace {

using torch::Tensor;

constexpr int64_t kMostImages = 16;                  // that a thread draws at once: more save little
constexpr int64_t kLargestCache = int64_t{2} << 30;  // bytes of a thread's keys and values

// What LibTorch's operations keep (keep_freed_memory) and drawing, in larger pieces, cannot use.
void return_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// Draws the images of a chunk position by position.
class Chunk {
 public:
  Chunk(Generation& generation, const ops::cpu::BatchDecoder& decoder, int64_t images, int64_t num_vocab)
      : generation_(generation), decoder_(decoder), state_(decoder.make_state(images)), num_vocab_(num_vocab) {}

  void draw(int64_t first, int64_t count) {
    previous_.assign(static_cast<size_t>(count), 0);
    logits_.resize(static_cast<size_t>(count * num_vocab_));
    for (int64_t position = 0; position < generation_.length() && !generation_.stopped(); ++position) {
      for (int64_t i = 0; i < count; ++i) previous_[static_cast<size_t>(i)] = generation_.previous(first + i, position);
      const bool is_given = position < generation_.given();
      decoder_.decode(state_, previous_, position, is_given ? std::span<float>() : logits_);
      if (is_given) continue;
      for (int64_t i = 0; i < count; ++i)
        generation_.draw_pixel(
            first + i, position,
            std::span(logits_).subspan(static_cast<size_t>(i * num_vocab_), static_cast<size_t>(num_vocab_)));
      generation_.report(first, count, position, position + 1);
    }
  }

 private:
  Generation& generation_;
  const ops::cpu::BatchDecoder& decoder_;
  ops::cpu::BatchDecoder::State state_;
  const int64_t num_vocab_;
  std::vector<int64_t> previous_;
  std::vector<float> logits_;
};

// LibTorch's operations for everything but drawing.
class BatchBackend final : public Backend {
 public:
  BatchBackend(ImageGPT model, const BackendOptions& options)
      : model_(std::move(model)), bf16_(options.bf16), libtorch_(make_libtorch_backend(model_, options.bf16)) {}

  std::string name() const override { return libtorch_->name(); }
  bool is_fused() const override { return false; }

  Tensor add_gradients(const Tensor& tokens, const Tensor& labels, const Objective& objective, double scale,
                       const Tensor& gradients) override {
    return libtorch_->add_gradients(tokens, labels, objective, scale, gradients);
  }
  Tensor nats_per_image(const Tensor& tokens, const Tensor& labels) override {
    return libtorch_->nats_per_image(tokens, labels);
  }
  Tensor nats_per_pixel(const Tensor& tokens, const Tensor& labels) override {
    return libtorch_->nats_per_pixel(tokens, labels);
  }
  Tensor class_logits(const Tensor& tokens) override { return libtorch_->class_logits(tokens); }
  Tensor layer_features(const Tensor& tokens) override { return libtorch_->layer_features(tokens); }

  void sample(Generation& generation) override {
    const Tensor& weights = model_->weights();
    const std::span flat(weights.const_data_ptr<float>(), static_cast<size_t>(weights.numel()));
    const ops::cpu::BatchDecoder decoder(model_->shape(), flat, bf16_);
    return_freed_memory();
    const int64_t threads = at::get_num_threads(), images = images_at_once(generation.images());
    generation.run(images, threads, [&]() -> Generation::Worker {
      const auto chunk = std::make_shared<Chunk>(generation, decoder, images, model_->options().num_vocab);
      return [chunk](int64_t first, int64_t count) { chunk->draw(first, count); };
    });
  }

  int64_t bytes_to_draw(int64_t images) const override {
    const int64_t of_weights = ops::ParameterTable(model_->shape()).count * (bf16_ ? 2 : 4);  // packed
    return of_weights + std::min(images, at::get_num_threads() * images_at_once(images)) * cache_bytes();
  }

 private:
  int64_t cache_bytes() const { return model_->cache_bytes() / (bf16_ ? 2 : 1); }  // of an image

  // Images that a thread draws at once, of so many: half of the memory that is free is left to others.
  int64_t images_at_once(int64_t images) const {
    const int64_t threads = at::get_num_threads(), available = available_memory(torch::kCPU);
    const int64_t bytes = available == 0 ? kLargestCache : std::min(kLargestCache, available / 2 / threads);
    const int64_t shared = (images + threads - 1) / threads;
    return std::max<int64_t>(1, std::min({shared, kMostImages, bytes / cache_bytes()}));
  }

  ImageGPT model_;
  const bool bf16_;
  const std::unique_ptr<Backend> libtorch_;
};

}  // namespace

std::unique_ptr<Backend> make_batch_backend(const ImageGPT& model, const BackendOptions& options) {
  if (!model->device().is_cpu() || model->head->weight.scalar_type() != torch::kFloat32) return nullptr;
  return std::make_unique<BatchBackend>(model, options);
}

}  // namespace igpt::backend
