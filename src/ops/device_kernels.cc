#include "src/ops/device_kernels.h"

#include "igpt/ops/kernels.h"
#include "src/ops/device_table.h"

namespace igpt::ops {
namespace {

constinit DeviceTable<TriedKernels> tried_kernels;

const char* name_of(DeviceTask task) {
  switch (task) {
    case DeviceTask::update:
      return "training";
    case DeviceTask::evaluation:
      return "evaluation";
    default:
      return "sampling";
  }
}

}  // namespace

void TriedKernels::distrust(DeviceTask task, const std::string& cause, const Note& note) {
  if (trust_[static_cast<size_t>(task)].exchange(Trust::found_wrong) == Trust::found_wrong || !note) return;
  note(std::string("the device's own kernels for ") + name_of(task) +
       " are not used: " + cause.substr(0, cause.find('\n')) + "; going on with LibTorch's operations");
}

void use_device_kernels(c10::DeviceType device, TriedKernels* kernels) {
  tried_kernels[device] = kernels;
}

ChosenKernels choose_kernels(c10::Device device, const ModelShape& shape, int64_t images, DeviceTask task, bool bf16) {
  using cuda::AttentionPrecision;
  TriedKernels* const kernels = tried_kernels[device.type()];
  if (!kernels || ops::kernels() != Kernels::fused || kernels->distrusted(task)) return {};
  if (!(*kernels)->supports(device, shape, images)) return {};
  const auto wanted = bf16 ? AttentionPrecision::bf16 : AttentionPrecision::split_bf16;
  if ((*kernels)->has_precision(device, wanted)) return {kernels, shape, wanted};
  return bf16 ? ChosenKernels{} : ChosenKernels{kernels, shape, AttentionPrecision::fp32};
}

double tolerance(cuda::AttentionPrecision precision) {
  return precision == cuda::AttentionPrecision::bf16 ? 0.05 : 5e-4;
}

}  // namespace igpt::ops
