#include <ATen/Parallel.h>

#include <optional>

#include "igpt/backend/backend.h"
#include "igpt/error.h"
#include "igpt/ops/cpu/decoder.h"
#include "igpt/ops/cpu/fused_step.h"

namespace igpt::backend {
namespace {

using torch::Tensor;

template <class T>
std::span<T> span_of(const Tensor& tensor) {
  return {tensor.data_ptr<std::remove_const_t<T>>(), static_cast<size_t>(tensor.numel())};
}

// Draws an image at a time with the decoder.
class ImageByImage {
 public:
  ImageByImage(Generation& generation, const ops::cpu::Decoder& decoder, const ImageGPTOptions& options)
      : generation_(generation),
        decoder_(decoder),
        state_(decoder.make_state()),
        row_(options.num_pixels),
        logits_(static_cast<size_t>(options.num_vocab)) {}

  void draw(int64_t n) {
    read_context(n);
    for (int64_t begin = generation_.given(), end; begin < generation_.length() && !generation_.stopped();
         begin = end) {
      end = (begin / row_ + 1) * row_;
      for (int64_t position = begin; position < end; ++position) {
        decoder_.decode(state_, generation_.previous(n, position), position, logits_);
        generation_.draw_pixel(n, position, logits_);
      }
      generation_.report(n, 1, begin, end);
    }
  }

 private:
  // The samples of one test image follow each other and have the same context: its keys and values are still there.
  void read_context(int64_t n) {
    const int64_t given = generation_.given();
    const int64_t* const x = generation_.image(n);
    const bool is_read = read_ >= 0 && generation_.label(n) == generation_.label(read_) &&
                         std::equal(x, x + given, generation_.image(read_));
    for (int64_t position = 0; position < given && !is_read; ++position)
      decoder_.decode(state_, generation_.previous(n, position), position, {});
    read_ = n;
  }

  Generation& generation_;
  const ops::cpu::Decoder& decoder_;
  ops::cpu::Decoder::State state_;
  int64_t row_;
  std::vector<float> logits_;
  int64_t read_ = -1;  // the image whose context state_ has read
};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(ImageGPT model) : model_(std::move(model)), weights_(model_->weights()) {}

  std::string name() const override { return "fused kernels (" + ops::cpu::vectors_in_use() + ")"; }

  Tensor add_gradients(const Tensor& x, const Tensor& y, const Objective& objective, double scale,
                       const Tensor& gradients) override {
    const Tensor tokens = checked(x);
    const auto factor = static_cast<float>(scale);
    if (!objective.classify)
      return torch::scalar_tensor(
          step().generative(span_of<const uint8_t>(tokens), weights(), factor, span_of<float>(gradients), starts(y)),
          torch::kFloat64);
    return torch::scalar_tensor(
        step().classifier(span_of<const uint8_t>(tokens), labels_of(y), weights(), factor, span_of<float>(gradients),
                          static_cast<float>(objective.generative_weight)),
        torch::kFloat64);
  }

  Tensor nats_per_image(const Tensor& x, const Tensor& y) override {
    const Tensor tokens = checked(x), nats = torch::empty({x.size(0)}, torch::kFloat64);
    step().nats(span_of<const uint8_t>(tokens), weights(), span_of<double>(nats), starts(y));
    return nats;
  }

  Tensor nats_per_pixel(const Tensor& x, const Tensor& y) override {
    const Tensor tokens = checked(x);
    const auto logits = torch::empty({x.size(0), x.size(1), model_->shape().num_vocab});  // (B, S, V)
    step().logits(span_of<const uint8_t>(tokens), weights(), span_of<float>(logits), starts(y));
    return igpt::nats_per_pixel(logits, tokens);
  }

  Tensor class_logits(const Tensor& x) override {
    const Tensor tokens = checked(x), logits = torch::empty({x.size(0), model_->options().num_classes});
    step().class_logits(span_of<const uint8_t>(tokens), weights(), span_of<float>(logits));
    return logits;
  }

  Tensor layer_features(const Tensor& x) override {
    const ops::ModelShape& shape = model_->shape();
    const Tensor tokens = checked(x);
    const auto features = torch::empty({x.size(0), shape.num_layers + 1, shape.embed_dim}, torch::kFloat64);
    step().features(span_of<const uint8_t>(tokens), weights(), span_of<double>(features));
    return features.to(torch::kFloat32);
  }

  void sample(Generation& generation) override {
    const ops::cpu::Decoder decoder(model_->shape(), weights());
    generation.run(/*chunk=*/1, at::get_num_threads(), [&]() -> Generation::Worker {
      const auto images = std::make_shared<ImageByImage>(generation, decoder, model_->options());
      return [images](int64_t n, int64_t) { images->draw(n); };
    });
  }

 private:
  // Made when it is first needed: sampling does without.
  ops::cpu::FusedStep& step() {
    if (!step_) step_.emplace(model_->shape(), at::get_num_threads());
    return *step_;
  }

  std::span<const float> weights() const { return span_of<const float>(weights_); }

  std::span<const int64_t> labels_of(const Tensor& y) {
    labels_ = y.to(torch::kInt64).contiguous();
    return span_of<const int64_t>(labels_);
  }

  // The labels where the images' start tokens depend on them.
  std::span<const int64_t> starts(const Tensor& y) {
    return model_->shape().conditional ? labels_of(y) : std::span<const int64_t>();
  }

  // (B, S) uint8
  Tensor checked(const Tensor& x) const {
    const int64_t length = model_->shape().sequence_length, vocab = model_->shape().num_vocab;
    if (x.dim() != 2 || x.size(1) != length || !x.device().is_cpu() || !c10::isIntegralType(x.scalar_type(), false))
      throw Error("the CPU's kernels: the tokens are not (B, " + std::to_string(length) + ") integers on the CPU");
    if (x.scalar_type() != torch::kUInt8 && x.numel() > 0) {
      const auto [smallest, largest] = x.aminmax();
      if (smallest.item<int64_t>() < 0 || largest.item<int64_t>() >= vocab)
        throw InputError("the CPU's kernels: a token is outside the palette of " + std::to_string(vocab) +
                         "; prepare the data set again");
    }
    return x.to(torch::kUInt8).contiguous();
  }

  ImageGPT model_;
  const Tensor weights_;  // (P): the model's
  Tensor labels_;         // those of a call
  std::optional<ops::cpu::FusedStep> step_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const ImageGPT& model) {
  if (!model->device().is_cpu() || model->head->weight.scalar_type() != torch::kFloat32 ||
      !ops::cpu::supports(model->shape()))
    return nullptr;
  return std::make_unique<CpuBackend>(model);
}

}  // namespace igpt::backend
