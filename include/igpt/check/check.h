#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "igpt/hooks.h"

namespace igpt {

/// One comparison of a kernel with LibTorch's operations.
struct CheckRow {
  std::string work;                          ///< "gradients", "attention, bf16"
  std::string shape;                         ///< "D 16, H 2, L 8, S 784"
  double error = 0, allowed = 0;             ///< relative to LibTorch's result, by norm; of samples a share of pixels
  double milliseconds = 0, of_libtorch = 0;  ///< for one call
  std::string failure;                       ///< what the kernel threw; empty: nothing

  bool passed() const { return failure.empty() && error <= allowed; }  // false for NaN
};

struct CheckOptions {
  enum class Models { all, small };

  std::string device = "auto";
  int64_t threads = 0;
  Models models = Models::all;  ///< small: one of a few pixels, as an emulator can compute it
};

struct CheckResult {
  std::string device;  ///< "cpu", "cuda:0"
  std::string
      kernels;  ///< backend::Backend::name of what was compared; empty: there are no kernels of this project for it
  int64_t rows = 0, failed = 0;
};

/// Compares every kernel that this build has for a device, and whole updates, scores and samples, with LibTorch's
/// operations on the same device, as `run check` does. Each comparison is reported as it is made. Throws igpt::Error
/// where the device cannot be used at all.
CheckResult check_kernels(const CheckOptions& options, const std::function<void(const CheckRow&)>& row,
                          const Hooks& hooks);

}  // namespace igpt
