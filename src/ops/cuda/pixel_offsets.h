#pragma once

#include "igpt/ops/model_shape.h"
#include "igpt/ops/neighbourhood.h"
#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// The neighbourhood() of a pixel, as kernels take it.
struct PixelOffsets {
  int side = 0;                                              ///< of the square image
  int8_t down[kMostNeighbours]{}, right[kMostNeighbours]{};  ///< from a pixel to the k-th nearest before it

  PixelOffsets(int64_t image_side, int64_t count) : side(static_cast<int>(image_side)) {
    int k = 0;
    for (const Neighbour& at : neighbourhood(count < kMostNeighbours ? count : kMostNeighbours)) {
      down[k] = static_cast<int8_t>(at.down);
      right[k++] = static_cast<int8_t>(at.right);
    }
  }

  /// The position of the k-th neighbour of position `at`; -1 where that is outside the image.
  SIMT_ANYWHERE int neighbour(int at, int k) const { return offset(at, k, 1); }
  /// The position whose k-th neighbour is at position `at`; -1 where there is none.
  SIMT_ANYWHERE int reader(int at, int k) const { return offset(at, k, -1); }

 private:
  SIMT_ANYWHERE int offset(int at, int k, int sign) const {
    const int row = at / side + sign * down[k], column = at % side + sign * right[k];
    const bool inside = row >= 0 && row < side && column >= 0 && column < side;
    return inside ? row * side + column : -1;
  }
};

}  // namespace igpt::ops::cuda
