#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "igpt/backend/backend.h"
#include "src/ops/cuda/sampler.h"
#include "src/ops/cuda/update_step.h"

namespace igpt::backend {

/// What a device's library computes of whole models. Pointers are to memory of the device.
struct DeviceKernels {
  bool (*supports)(c10::Device device, const ops::ModelShape& shape, int64_t images) = nullptr;
  bool (*supports_muon)(c10::Device device, const ops::ModelShape& shape) = nullptr;
  bool (*has_precision)(c10::Device device, ops::cuda::AttentionPrecision precision) = nullptr;
  std::unique_ptr<DeviceWork> (*update)(c10::Device device, const ops::cuda::Update& update) = nullptr;
  std::unique_ptr<DeviceWork> (*evaluation)(c10::Device device, const ops::cuda::Evaluation& evaluation) = nullptr;
  void (*sample)(c10::Device device, const ops::cuda::Sampler& sampler) = nullptr;
};

/// Backends of devices of this type compute with `kernels` from now on; null: no longer.
void use_device_kernels(c10::DeviceType device, const DeviceKernels* kernels);

}  // namespace igpt::backend
