#include <algorithm>
#include <array>
#include <atomic>

#include "igpt/backend/backend.h"
#include "igpt/error.h"
#include "src/backend/device_kernels.h"

namespace igpt::backend {
namespace {

using ops::cuda::AttentionPrecision;
using torch::Tensor;

std::array<std::atomic<const DeviceKernels*>, c10::COMPILE_TIME_MAX_DEVICE_TYPES> registered{};

const DeviceKernels* kernels_of(c10::Device device) {
  return registered[static_cast<size_t>(device.type())];
}

/// A small model's forward pass on batches of one size, as work that the device repeats.
class RepeatedEvaluation {
 public:
  RepeatedEvaluation(const DeviceKernels& kernels, c10::Device device, ops::cuda::Evaluation evaluation,
                     bool classify) {
    const auto& shape = evaluation.shape;
    const auto on_device = torch::TensorOptions(device);
    tokens_ = torch::zeros({evaluation.images, shape.sequence_length}, on_device.dtype(torch::kUInt8));
    evaluation.tokens = tokens_.data_ptr<uint8_t>();
    if (shape.conditional) {
      labels_ = torch::zeros({evaluation.images}, on_device.dtype(torch::kInt64));
      evaluation.labels = labels_.data_ptr<int64_t>();
    }
    if (classify) {
      result_ = torch::zeros({evaluation.images, shape.num_classes}, on_device.dtype(torch::kFloat32));
      evaluation.class_logits = result_.data_ptr<float>();
    } else {
      result_ = torch::zeros({evaluation.images}, on_device.dtype(torch::kFloat64));
      evaluation.nats = result_.data_ptr<double>();
    }
    work_ = kernels.evaluation(device, evaluation);
    work_->launch();
    work_->record();
  }

  /// The last batch may be smaller: what else is in the buffer is computed for nothing.
  Tensor operator()(const Tensor& x, const Tensor& y) {
    tokens_.narrow(0, 0, x.size(0)).copy_(x);
    if (labels_.defined()) labels_.narrow(0, 0, y.size(0)).copy_(y);
    work_->repeat();
    return result_.narrow(0, 0, x.size(0)).clone();
  }

 private:
  Tensor tokens_;  // (B, S)
  Tensor labels_;  // (B), where each class has a start token
  Tensor result_;  // (B) float64 or (B, C) float32
  std::unique_ptr<DeviceWork> work_;
};

class DeviceBackend final : public Backend {
 public:
  DeviceBackend(ImageGPT model, const DeviceKernels& kernels, int64_t images, AttentionPrecision precision)
      : model_(std::move(model)),
        weights_(model_->weights()),
        device_(model_->device()),
        kernels_(kernels),
        images_(images),
        precision_(precision) {}

  std::string name() const override { return "the device's own kernels"; }

  // Trainings use update(); this is for single batches of any size.
  Tensor add_gradients(const Tensor& x, const Tensor& y, const Objective& objective, double scale,
                       const Tensor& gradients) override {
    const auto on_device = torch::TensorOptions(device_);
    const Tensor tokens = x.to(torch::kUInt8).contiguous(),
                 order = torch::arange(x.size(0), on_device.dtype(torch::kInt64)),
                 next = torch::zeros({2}, on_device.dtype(torch::kInt64)), rates = torch::zeros({1}, on_device),
                 loss = torch::zeros({}, on_device.dtype(torch::kFloat64)), added = torch::zeros_like(weights_);
    const bool with_labels = objective.classify || model_->shape().conditional;
    const Tensor labels = with_labels ? y.contiguous() : torch::zeros_like(order);
    ops::cuda::Update update;
    update.data = {x.size(0), x.size(1), tokens.data_ptr<uint8_t>(), labels.data_ptr<int64_t>()};
    update.plan = {1, order.data_ptr<int64_t>(), rates.data_ptr<float>(), next.data_ptr<int64_t>()};
    update.images = update.batch_size = x.size(0);
    update.classify = objective.classify;
    update.generative_weight = objective.generative_weight;
    update.gradients = added.data_ptr<float>();
    update.loss = loss.data_ptr<double>();
    this->update(update)->launch();
    gradients.add_(added, scale);
    return loss;
  }

  Tensor nats_per_image(const Tensor& tokens, const Tensor& labels) override {
    return evaluated(nats_, tokens, labels, /*classify=*/false);
  }
  Tensor class_logits(const Tensor& tokens) override {
    return evaluated(class_logits_, tokens, /*labels=*/{}, /*classify=*/true);
  }

  // Computed once for a model: LibTorch's operations will do.
  Tensor nats_per_pixel(const Tensor& tokens, const Tensor& labels) override {
    return make_libtorch_backend(model_)->nats_per_pixel(tokens, labels);
  }
  Tensor layer_features(const Tensor& tokens) override { return make_libtorch_backend(model_)->layer_features(tokens); }

  void sample(Generation& generation) override {
    const c10::InferenceMode no_gradients;
    const int64_t images = generation.images(), given = generation.given(), length = generation.length();
    if (given == length || images == 0) return;
    for (int64_t first = 0, count = 0; first < images; first += count) {
      count = std::min(images - first, images_of_launch());
      draw(generation, first, count);
    }
    generation.report(/*first=*/0, images, given, length);
  }

  bool has_updates() const override { return true; }
  bool has_muon() const override { return kernels_.supports_muon(device_, model_->shape()); }

  std::unique_ptr<DeviceWork> update(const ops::cuda::Update& arguments) override {
    ops::cuda::Update update = arguments;
    update.shape = model_->shape();
    update.precision = precision_;
    update.adam.count = weights_.numel();
    update.adam.weights = weights_.data_ptr<float>();
    return kernels_.update(device_, update);
  }

 private:
  Tensor evaluated(std::unique_ptr<RepeatedEvaluation>& evaluation, const Tensor& tokens, const Tensor& labels,
                   bool classify) {
    if (model_->shape().conditional && !labels.defined())
      throw Error("the device's kernels: the model has a start token for each class and was not told the classes");
    if (!evaluation)
      evaluation = std::make_unique<RepeatedEvaluation>(
          kernels_, device_,
          ops::cuda::Evaluation{model_->shape(), precision_, images_, weights_.data_ptr<float>(), /*tokens=*/nullptr},
          classify);
    return (*evaluation)(tokens, labels);
  }

  // Images that are drawn at a time: several for each multiprocessor, with keys and values that fit into memory.
  int64_t images_of_launch() const {
    constexpr int64_t kMost = 1024, kCacheFloats = 1 << 27;
    return std::clamp<int64_t>(kCacheFloats / ops::cuda::sampler_cache_floats(model_->shape(), 1), 1, kMost);
  }

  void draw(Generation& generation, int64_t first, int64_t count) {
    const auto& shape = model_->shape();
    const auto& options = generation.options();
    const auto on_device = torch::TensorOptions(device_);
    const auto tokens = generation.tokens().narrow(0, first, count).to(on_device.dtype(torch::kUInt8)).contiguous();
    auto streams = torch::empty({count}, torch::kInt64), labels = torch::empty_like(streams);
    for (int64_t i = 0; i < count; ++i) {
      streams.data_ptr<int64_t>()[i] = static_cast<int64_t>(generation.stream(first + i));
      labels.data_ptr<int64_t>()[i] = generation.label(first + i);
    }
    streams = streams.to(device_), labels = labels.to(device_);
    const auto cache = torch::empty({ops::cuda::sampler_cache_floats(shape, count)}, on_device.dtype(torch::kFloat32));
    const auto faults = torch::zeros({count}, on_device.dtype(torch::kInt32));
    ops::cuda::Sampler sampler{shape, count, generation.given()};
    sampler.options = {options.temperature, options.top_k, options.top_p, static_cast<uint64_t>(options.seed)};
    sampler.weights = weights_.data_ptr<float>();
    sampler.streams = reinterpret_cast<const uint64_t*>(streams.data_ptr<int64_t>());
    sampler.tokens = tokens.data_ptr<uint8_t>();
    sampler.cache = cache.data_ptr<float>();
    sampler.labels = labels.data_ptr<int64_t>();
    sampler.faults = faults.data_ptr<int32_t>();
    kernels_.sample(device_, sampler);
    if (faults.any().item<bool>()) throw LogitsNotFinite();
    generation.tokens().narrow(0, first, count).copy_(tokens);
  }

  ImageGPT model_;
  const Tensor weights_;  // (P): the model's
  const c10::Device device_;
  const DeviceKernels& kernels_;
  const int64_t images_;
  const AttentionPrecision precision_;
  std::unique_ptr<RepeatedEvaluation> nats_, class_logits_;  // made when they are first needed
};

}  // namespace

void use_device_kernels(c10::DeviceType device, const DeviceKernels* kernels) {
  registered[static_cast<size_t>(device)] = kernels;
}

std::unique_ptr<Backend> make_device_backend(const ImageGPT& model, const BackendOptions& options) {
  const auto device = model->device();
  const DeviceKernels* const kernels = kernels_of(device);
  if (!kernels || !kernels->supports(device, model->shape(), options.images)) return nullptr;
  auto precision = options.bf16 ? AttentionPrecision::bf16 : AttentionPrecision::bf16x3;
  if (!kernels->has_precision(device, precision)) {
    if (options.bf16) return nullptr;
    precision = AttentionPrecision::fp32;
  }
  return std::make_unique<DeviceBackend>(model, *kernels, options.images, precision);
}

}  // namespace igpt::backend
