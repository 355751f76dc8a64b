#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "src/backend/device_kernels.h"

namespace igpt::testing {

/// While it lives, the CPU's tensors count as an emulated GPU's memory, and small models are computed there by the CUDA
/// kernels (tests/simt). It does what a test wants to go wrong, and remembers what was asked of it.
class EmulatedDevice {
 public:
  EmulatedDevice();
  EmulatedDevice(const EmulatedDevice&) = delete;
  EmulatedDevice& operator=(const EmulatedDevice&) = delete;
  ~EmulatedDevice();

  bool tensor_cores = false;
  int shared_bytes = 227 * 1024;                 ///< of a block, at most
  std::string refuses_launch;                    ///< what is thrown after one; empty: nothing
  std::string refuses_record, refuses_sampling;  ///< in place of these
  std::string refuses_repeat;                    ///< of the update, after so many repetitions:
  int64_t refuses_after = 0;
  std::function<void(const ops::cuda::Update&)> spoil_update;          ///< done to the results of each; empty: nothing
  std::function<void(const ops::cuda::Evaluation&)> spoil_evaluation;  ///< the same
  uint8_t wrong_token = 0;                                             ///< added to the last token that it draws

  std::atomic<int64_t> updates = 0, evaluations = 0, samplings = 0;  ///< that it computed
  std::atomic<ops::cuda::AttentionPrecision> precision{};            ///< of the last update or evaluation
};

}  // namespace igpt::testing
