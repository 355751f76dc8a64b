#pragma once

namespace igpt::ops {

/// Which implementations compute a model.
enum class Kernels {
  reference,  ///< LibTorch's elementary operations, attention written out
  libtorch,   ///< LibTorch's own fused operations for every model, as large models take them
  fused,      ///< the fastest that the model and its device have
};

/// From the environment variable IGPT_KERNELS (`reference`, `libtorch` or `fused`, the default), read once. Throws
/// igpt::UsageError on another value.
Kernels kernel_choice();

}  // namespace igpt::ops
