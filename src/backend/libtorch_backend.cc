#include <ATen/Parallel.h>
#include <malloc.h>

#include <climits>

#include "igpt/backend/backend.h"
#include "igpt/model/autocast.h"
#include "igpt/model/flat_parameters.h"

namespace igpt::backend {
namespace {

using torch::Tensor;

// Images that the model draws at once. Matrices of one size only: another size may be rounded differently, and a draw
// that falls just there would change the rest of the image.
constexpr int64_t kChunkOnCpu = 16, kChunkOnCuda = 64;

// LibTorch allocates and frees the result of every operation. glibc would return large ones to the system, which clears
// their pages again for the next: a tenth of the time of an evaluation of iGPT-S.
void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
}

class LibTorchBackend final : public Backend {
 public:
  LibTorchBackend(ImageGPT model, bool bf16) : model_(std::move(model)), bf16_(bf16) {
    model_->weights();
    if (model_->device().is_cpu()) keep_freed_memory();
  }

  std::string name() const override { return "LibTorch's operations"; }
  bool is_fused() const override { return false; }

  Tensor add_gradients(const Tensor& tokens, const Tensor& labels, const Objective& objective, double scale,
                       const Tensor& gradients) override {
    const torch::AutoGradMode with_gradients(true);
    point_gradients_to(gradients);
    const auto loss = loss_of(tokens, labels, objective);
    (scale == 1 ? loss : loss * scale).backward();
    return loss.detach().to(torch::kFloat64);
  }

  Tensor nats_per_image(const Tensor& tokens, const Tensor& labels) override {
    const torch::NoGradGuard no_gradients;
    const Bf16Autocast autocast(tokens.device().type(), bf16_);
    return igpt::nats_per_image(model_->forward(tokens, labels).to(torch::kFloat32), tokens);
  }

  Tensor nats_per_pixel(const Tensor& tokens, const Tensor& labels) override {
    const torch::NoGradGuard no_gradients;
    const Bf16Autocast autocast(tokens.device().type(), bf16_);
    return igpt::nats_per_pixel(model_->forward(tokens, labels).to(torch::kFloat32), tokens);
  }

  Tensor class_logits(const Tensor& tokens) override {
    const torch::NoGradGuard no_gradients;
    const Bf16Autocast autocast(tokens.device().type(), bf16_);
    return model_->classify(tokens).to(torch::kFloat32);
  }

  Tensor layer_features(const Tensor& tokens) override {
    const torch::NoGradGuard no_gradients;
    const Bf16Autocast autocast(tokens.device().type(), bf16_);
    return model_->layer_features(tokens).to(torch::kFloat32);
  }

  void sample(Generation& generation) override {
    const bool on_cpu = model_->device().is_cpu();
    const int64_t chunk = on_cpu ? kChunkOnCpu : kChunkOnCuda;
    const int before = at::get_num_threads();
    generation.run(chunk, on_cpu ? before : 0, [&]() -> Generation::Worker {
      if (on_cpu) at::set_num_threads(1);  // how LibTorch splits an operation would be seen in the rounding
      return [&](int64_t first, int64_t count) { draw_chunk(generation, chunk, first, count); };
    });
    at::set_num_threads(before);
  }

  int64_t bytes_to_draw(int64_t images) const override {
    const bool on_cpu = model_->device().is_cpu();
    const int64_t chunk = on_cpu ? kChunkOnCpu : kChunkOnCuda, chunks = (images + chunk - 1) / chunk;
    const int64_t workers = on_cpu ? at::get_num_threads() : 1;
    return std::min(chunks, workers) * chunk * model_->cache_bytes();
  }

 private:
  // backward() adds to the parameters' own gradients, which become views of the flat ones.
  void point_gradients_to(const Tensor& gradients) {
    if (gradients.is_same(gradients_)) return;
    auto parameters = model_->parameters();
    const auto views = views_of(gradients, ops::ParameterTable(model_->shape()).parameters);
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = views[i];
    gradients_ = gradients;
  }

  Tensor loss_of(const Tensor& tokens, const Tensor& labels, const Objective& objective) {
    const Bf16Autocast autocast(tokens.device().type(), bf16_);
    const auto h = model_->features(tokens, labels);  // (B, S, D)
    const auto generative = [&] { return generative_loss(model_->head->forward(h).to(torch::kFloat32), tokens); };
    if (!objective.classify) return generative();
    const auto logits = model_->clf_head->forward(h).to(torch::kFloat32);  // (B, C)
    const auto loss = torch::nn::functional::cross_entropy(logits, labels);
    return objective.generative_weight == 0 ? loss : loss + objective.generative_weight * generative();
  }

  void draw_chunk(Generation& generation, int64_t chunk, int64_t first, int64_t count) {
    const c10::InferenceMode no_gradients;
    KeyValueCache cache = model_->make_cache(chunk);
    const auto vocab = static_cast<size_t>(model_->options().num_vocab);
    auto previous = torch::zeros({chunk}, torch::kInt64);
    for (int64_t position = 0; position < generation.length() && !generation.stopped(); ++position) {
      for (int64_t i = 0; i < count; ++i) previous.data_ptr<int64_t>()[i] = generation.previous(first + i, position);
      const auto decoded = model_->decode(previous.to(model_->device()), position, cache);  // (chunk, V)
      if (position < generation.given()) continue;
      const auto logits = decoded.to(torch::kCPU, torch::kFloat32).contiguous();
      for (int64_t i = 0; i < count; ++i)
        generation.draw_pixel(first + i, position, {logits.data_ptr<float>() + i * logits.size(1), vocab});
      generation.report(first, count, position, position + 1);
    }
  }

  ImageGPT model_;
  const bool bf16_;
  Tensor gradients_;  // of which the parameters' gradients are views
};

}  // namespace

std::unique_ptr<Backend> make_libtorch_backend(const ImageGPT& model, bool bf16) {
  return std::make_unique<LibTorchBackend>(model, bf16);
}

}  // namespace igpt::backend
