#pragma once

#include "src/ops/cuda/block.h"
#include "src/ops/cuda/simt.h"

namespace igpt::ops::cuda {

/// BlockParameters as kernels take them.
template <class T>
struct DeviceBlock {
  simt::ptr<T> ln_1_weight, ln_1_bias, ln_2_weight, ln_2_bias, in, in_bias, out, out_bias, up, up_bias, down, down_bias;
};

struct DeviceSizes {
  int64_t tokens;
  int embed;
  bool residual_from_normalised;
  int tiles_of_block;     // backward: neighbouring tiles
  int64_t sums_of_block;  // backward: floats from one block's sums to the next one's
};

}  // namespace igpt::ops::cuda
