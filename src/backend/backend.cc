#include "igpt/backend/backend.h"
#include "igpt/error.h"
#include "igpt/ops/kernel_choice.h"

namespace igpt::backend {

std::unique_ptr<DeviceWork> Backend::update(const ops::cuda::Update&) {
  throw Error(name() + " have no whole updates");
}

std::unique_ptr<Backend> make_backend(const ImageGPT& model, const BackendOptions& options) {
  // The kernels know no other classifier.
  const bool fused = ops::kernel_choice() == ops::Kernels::fused;
  if (fused && model->options().shifted_classifier) {
    if (auto device = make_device_backend(model, options)) return device;
    if (auto cpu = make_cpu_backend(model)) {
      if (options.bf16 && options.note)
        options.note("computing in fp32, which is faster than bf16 for a small model on a CPU");
      return cpu;
    }
  }
  if (fused)
    if (auto batch = make_batch_backend(model, options)) return batch;
  return make_libtorch_backend(model, options.bf16);
}

}  // namespace igpt::backend
