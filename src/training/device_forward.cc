#include "src/training/device_forward.h"

#include <cstdio>

#include "igpt/ops/flat_parameters.h"

namespace igpt::training {

using torch::Tensor;

DeviceForward::DeviceForward(const ops::ChosenKernels& chosen, const ImageGPTImpl& model, c10::Device device,
                             const ScoringOptions& options)
    : chosen_(chosen), device_(device), options_(options), weights_(ops::concatenated(model.parameters())) {}

void DeviceForward::start() {
  const auto& shape = chosen_.shape;
  const auto on_device = torch::TensorOptions(device_);
  const int64_t size = options_.batch_size;
  tokens_ = torch::zeros({size, shape.sequence_length}, on_device.dtype(torch::kUInt8));
  result_ = options_.classify ? torch::zeros({size, shape.num_classes}, on_device.dtype(torch::kFloat32))
                              : torch::zeros({size}, on_device.dtype(torch::kFloat64));
  ops::cuda::Evaluation evaluation{shape, chosen_.precision, size, weights_.data_ptr<float>(),
                                   tokens_.data_ptr<uint8_t>()};
  if (options_.classify)
    evaluation.class_logits = result_.data_ptr<float>();
  else
    evaluation.nats = result_.data_ptr<double>();
  work_ = (*chosen_.kernels)->evaluation(device_, evaluation);
  work_->launch();
  work_->record();
}

// The last batch may be smaller: what else is in the buffer is computed for nothing.
Tensor DeviceForward::computed(const Tensor& x) {
  if (!work_) start();
  tokens_.narrow(0, 0, x.size(0)).copy_(x);
  work_->repeat();
  return result_.narrow(0, 0, x.size(0)).clone();
}

Tensor DeviceForward::run(const Tensor& x, const std::function<Tensor()>& by_libtorch) {
  constexpr auto kTask = ops::DeviceTask::evaluation;
  auto& kernels = *chosen_.kernels;
  if (kernels.distrusted(kTask)) return {};
  try {
    const auto result = computed(x);
    if (kernels.trusted(kTask)) return result;
    const auto expected = by_libtorch().to(torch::kFloat64);
    const double off = ((result.to(torch::kFloat64) - expected).norm() / expected.norm()).item<double>();
    if (off <= ops::tolerance(chosen_.precision)) {
      kernels.trust(kTask);
      return result;
    }
    char cause[80];
    std::snprintf(cause, sizeof cause, "their result differs from LibTorch's by %.2g", off);
    kernels.distrust(kTask, cause, options_.note);
  } catch (const std::exception& error) {
    kernels.distrust(kTask, error.what(), options_.note);
  }
  work_.reset();
  return {};
}

}  // namespace igpt::training
