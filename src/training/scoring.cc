#include "igpt/training/scoring.h"

#include <optional>

#include "igpt/model/fused_model.h"
#include "igpt/ops/autocast.h"
#include "src/model/kernel_shapes.h"
#include "src/training/device_forward.h"

namespace igpt::training {
namespace {

using torch::Tensor;

// A batch's nats per image (B) float64 or, of a classifier, logits (B, C), by the device's own kernels, the CPU's fused
// ones or LibTorch's.
class Forward {
 public:
  Forward(ImageGPT model, c10::Device device, const ScoringOptions& options)
      : model_(std::move(model)), device_(device), options_(options), parameters_(model_->parameters()) {
    if (const auto chosen = ops::choose_kernels(device, device_shape(model_->options()), options.batch_size,
                                                ops::DeviceTask::evaluation, options.bf16))
      on_device_.emplace(chosen, *model_, device, options);
    if (!FusedModel::supports(model_->options(), device)) return;
    fused_.emplace(model_->options(), /*threads=*/0, FusedModel::precision(model_->options(), options.bf16));
  }

  Tensor operator()(const Tensor& x) {
    if (on_device_ && x.scalar_type() == torch::kUInt8)
      if (const auto result = on_device_->run(x, [&] { return by_libtorch(x); }); result.defined()) return result;
    return by_libtorch(x);
  }

 private:
  Tensor by_libtorch(const Tensor& x) {
    if (fused_)
      return options_.classify ? fused_->class_logits(x, parameters_) : fused_->nats_per_image(x, parameters_);
    const ops::Bf16Autocast autocast(device_.type(), options_.bf16);
    if (options_.classify) return model_->classify(x).to(torch::kFloat32);
    return nats_per_image(model_->forward(x).to(torch::kFloat32), x);
  }

  ImageGPT model_;
  c10::Device device_;
  const ScoringOptions& options_;
  std::vector<Tensor> parameters_;
  std::optional<DeviceForward> on_device_;
  std::optional<FusedModel> fused_;
};

}  // namespace

Score score(ImageGPT model, const TokenDataset& dataset, const ScoringOptions& options) {
  torch::NoGradGuard no_grad;
  const auto device = dataset.tokens.device();
  auto nats = torch::zeros({}, torch::TensorOptions(device).dtype(torch::kFloat64));
  auto correct = torch::zeros({}, torch::TensorOptions(device).dtype(torch::kInt64));
  Forward forward(model, device, options);
  for (int64_t start = 0; start < dataset.size(); start += options.batch_size) {
    const int64_t size = std::min(options.batch_size, dataset.size() - start);
    const auto result = forward(dataset.tokens.narrow(0, start, size));
    if (options.classify) {
      const auto y = dataset.labels.narrow(0, start, size);  // (B)
      nats += torch::nll_loss(result.to(torch::kFloat64).log_softmax(-1), y, /*weight=*/{}, at::Reduction::Sum);
      correct += (result.argmax(-1) == y).sum();
    } else {
      nats += result.sum();
    }
    if (options.per_image) options.per_image(result);
    if (options.progress) options.progress(start + size);
  }
  const int64_t per_image = options.classify ? 1 : dataset.tokens.size(1);
  const auto count = static_cast<double>(dataset.size());
  return {dataset.size(), nats.item<double>() / (count * static_cast<double>(per_image)),
          static_cast<double>(correct.item<int64_t>()) / count};
}

}  // namespace igpt::training
