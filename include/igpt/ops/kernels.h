#pragma once

namespace igpt::ops {

/// Which implementations the operations use.
enum class Kernels {
  reference,  ///< written out with LibTorch's elementary operations
  libtorch,   ///< LibTorch's own fused ones for every model, as large ones take
  fused,      ///< the fastest that the shape and device have
  emulated,   ///< the same, but bf16 on a CPU as on one with AMX, on tiles in memory
};

/// From the environment variable IGPT_KERNELS (`reference`, `libtorch`, `emulated` or `fused`, the default),
/// read once. Throws igpt::UsageError on another value.
Kernels kernels();

}  // namespace igpt::ops
