#pragma once

#include <cstdint>

namespace igpt::simt {

struct Limits {
  int shared_bytes = 0;  ///< a block's dynamic shared memory at most
  bool bf16_tensor_cores = false;
};

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

/// How a kernel is launched.
struct Config {
  Grid blocks;
  int threads = 32;
  int shared_bytes = 0;
  void* stream = nullptr;  ///< cudaStream_t
};

}  // namespace igpt::simt
