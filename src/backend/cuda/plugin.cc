// What libigpt_cuda.so offers to backend/devices.cc besides its probe.

#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "igpt/error.h"
#include "src/backend/cuda/attention_tensors.h"
#include "src/backend/device_kernels.h"
#include "src/ops/cuda/graph.h"

namespace igpt::backend::cuda {
namespace {

using ops::ModelShape;
using ops::cuda::AttentionPrecision;
using ops::cuda::EvaluationStep;
using ops::cuda::UpdateStep;

void* current_stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

void throw_if(const char* cause) {
  if (cause) throw DeviceError(std::string("CUDA: ") + cause);
}

bool has_precision_on(c10::Device device, AttentionPrecision precision) {
  return precision == AttentionPrecision::fp32 || at::cuda::getDeviceProperties(device.index())->major >= 8;
}

simt::Limits limits_of(c10::Device device) {
  const auto& properties = *at::cuda::getDeviceProperties(device.index());
  return {static_cast<int>(properties.sharedMemPerBlockOptin), /*bf16_tensor_cores=*/properties.major >= 8};
}

bool supports(c10::Device device, const ModelShape& shape, int64_t images) {
  return ops::cuda::model_supports(shape, images, limits_of(device));
}

bool supports_muon(c10::Device device, const ModelShape& shape) {
  return ops::cuda::muon_supports(shape, limits_of(device));
}

bool has_precision(const at::Tensor& q, AttentionPrecision precision) {
  return has_precision_on(q.device(), precision);
}

DeviceAttention::Output forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                AttentionPrecision precision) {
  const c10::cuda::CUDAGuard device(q.device());
  return attend(q, k, v, scale, precision, current_stream());
}

std::array<at::Tensor, 3> backward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const DeviceAttention::Output& computed, const at::Tensor& d_out, double scale,
                                   AttentionPrecision precision) {
  const c10::cuda::CUDAGuard device(q.device());
  return attend_backward(q, k, v, computed, d_out, scale, precision, current_stream());
}

/// A step (UpdateStep, EvaluationStep) with its memory and its graph.
template <class Step>
class StepOnDevice final : public DeviceWork {
 public:
  template <class Arguments>
  StepOnDevice(c10::Device device, const Arguments& arguments)
      : device_(device), step_(arguments, [this](const char*, int64_t count, int64_t element_bytes) {
          const auto bytes = at::TensorOptions(device_).dtype(at::kByte);
          return memory_.emplace_back(at::empty({count * element_bytes}, bytes)).mutable_data_ptr();
        }) {}

  void launch() override {
    const c10::cuda::CUDAGuard guard(device_);
    throw_if(step_.launch(current_stream()));
  }
  void record() override {
    const c10::cuda::CUDAGuard guard(device_);
    graph_.record(c10::cuda::getStreamFromPool().stream(), [this](void* stream) { return step_.launch(stream); });
  }
  void repeat() override {
    const c10::cuda::CUDAGuard guard(device_);
    graph_.launch(c10::cuda::getCurrentCUDAStream().stream());
  }

 private:
  c10::Device device_;
  std::vector<at::Tensor> memory_;
  Step step_;
  ops::cuda::Graph graph_;
};

std::unique_ptr<DeviceWork> update(c10::Device device, const ops::cuda::Update& arguments) {
  return std::make_unique<StepOnDevice<UpdateStep>>(device, arguments);
}

std::unique_ptr<DeviceWork> evaluation(c10::Device device, const ops::cuda::Evaluation& arguments) {
  return std::make_unique<StepOnDevice<EvaluationStep>>(device, arguments);
}

void sample(c10::Device device, const ops::cuda::Sampler& arguments) {
  const c10::cuda::CUDAGuard guard(device);
  throw_if(ops::cuda::sample(arguments, current_stream()));
}

}  // namespace
}  // namespace igpt::backend::cuda

/// For igpt::use_device_attention() and igpt::backend::use_device_kernels().
extern "C" const igpt::DeviceAttention igpt_cuda_attention;
const igpt::DeviceAttention igpt_cuda_attention = {igpt::backend::cuda::has_precision, igpt::backend::cuda::forward,
                                                   igpt::backend::cuda::backward};
extern "C" const igpt::backend::DeviceKernels igpt_cuda_models;
const igpt::backend::DeviceKernels igpt_cuda_models = {
    igpt::backend::cuda::supports, igpt::backend::cuda::supports_muon, igpt::backend::cuda::has_precision_on,
    igpt::backend::cuda::update,   igpt::backend::cuda::evaluation,    igpt::backend::cuda::sample};
