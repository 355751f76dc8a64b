#pragma once

#include <algorithm>

#include "src/ops/cuda/block.h"
#include "src/ops/cuda/simt.h"

namespace igpt::ops::cuda {

/// Where a block's parameters, or their gradients, lie one after the other from `first` on.
template <class T>
BlockParameters<simt::ptr<T>> block_on_device(T* first, int64_t embed) {
  BlockParameters<simt::ptr<T>> block;
  for_each_parameter(block, embed, [&](const char*, simt::ptr<T>& member, int64_t rows, int64_t columns) {
    member = simt::device_ptr(first);
    first += rows * std::max<int64_t>(columns, 1);
  });
  return block;
}

struct DeviceSizes {
  int64_t tokens;
  int embed;
  bool pre_norm;
  int tiles_of_block;     // backward: neighbouring tiles
  int64_t sums_of_block;  // backward: floats from one block's sums to the next one's
};

}  // namespace igpt::ops::cuda
