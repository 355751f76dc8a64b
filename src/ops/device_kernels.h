#pragma once

#include <c10/core/Device.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "src/ops/cuda/sampler.h"
#include "src/ops/cuda/update_step.h"

namespace igpt::ops {

/// Launches on a device with all their memory: done as they are, or recorded once and then repeated as one. They run
/// after what LibTorch has asked of the device before, and before what it asks of it later. Whatever cannot be done is
/// an exception.
class DeviceWork {
 public:
  virtual ~DeviceWork() = default;

  virtual void launch() = 0;
  virtual void record() = 0;  ///< runs nothing; after a launch(), which loads what is needed
  virtual void repeat() = 0;  ///< what was recorded
};

/// What a device's library computes of small models as a whole. Pointers are to memory of the device.
struct DeviceKernels {
  bool (*supports)(c10::Device device, const ModelShape& shape, int64_t images) = nullptr;
  bool (*has_precision)(c10::Device device, cuda::AttentionPrecision precision) = nullptr;
  std::unique_ptr<DeviceWork> (*update)(c10::Device device, const cuda::Update& update) = nullptr;
  std::unique_ptr<DeviceWork> (*evaluation)(c10::Device device, const cuda::Evaluation& evaluation) = nullptr;
  void (*sample)(c10::Device device, const cuda::Sampler& sampler) = nullptr;
};

/// What is tried before it is trusted, each for itself: where it is first used, its results are compared with those of
/// LibTorch's operations.
enum class DeviceTask { update, evaluation, sampling };

using Note = std::function<void(const std::string& line)>;

/// A device's kernels, and what has been found out about them in this process.
class TriedKernels {
 public:
  explicit TriedKernels(const DeviceKernels& kernels) : kernels_(kernels) {}

  const DeviceKernels* operator->() const { return &kernels_; }

  bool trusted(DeviceTask task) const { return at(task) == Trust::found_right; }
  bool distrusted(DeviceTask task) const { return at(task) == Trust::found_wrong; }
  void trust(DeviceTask task) { trust_[static_cast<size_t>(task)] = Trust::found_right; }
  /// Never used again, which `note` is told once, with the first line of the cause.
  void distrust(DeviceTask task, const std::string& cause, const Note& note);

 private:
  enum class Trust { untried, found_right, found_wrong };
  Trust at(DeviceTask task) const { return trust_[static_cast<size_t>(task)]; }

  DeviceKernels kernels_;
  std::array<std::atomic<Trust>, 3> trust_{};
};

/// Whole models on devices of this type are computed with `kernels` from now on; null: no longer.
void use_device_kernels(c10::DeviceType device, TriedKernels* kernels);

/// Those for the model in batches of `images`, in the precision that attention has where bf16 is asked for or not. Null
/// where there are none, or none to use for the task, or ops::kernels() wants others.
struct ChosenKernels {
  TriedKernels* kernels = nullptr;
  ModelShape shape;
  cuda::AttentionPrecision precision{};

  explicit operator bool() const { return kernels != nullptr; }
};
ChosenKernels choose_kernels(c10::Device device, const ModelShape& shape, int64_t images, DeviceTask task,
                             bool bf16 = false);

/// How far results of sound kernels may be from those of LibTorch's operations, relatively and by norm.
double tolerance(cuda::AttentionPrecision precision);

}  // namespace igpt::ops
