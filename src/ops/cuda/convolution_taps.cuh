#pragma once

#include "src/ops/cuda/convolution.h"
#include "src/ops/cuda/dense_tiles.cuh"

namespace igpt::ops::cuda {

/// How many positions before `at` the one is that tap k reads; 0 where it is outside the image.
SIMT_DEVICE int positions_before(const ConvolutionSizes& in, int at, int k) {
  const int row = at / in.side + in.down[k], column = at % in.side + in.right[k];
  const bool inside = row >= 0 && column >= 0 && column < in.side;
  return inside ? -(in.down[k] * in.side + in.right[k]) : 0;
}

/// How many positions behind `at` the one is that reads it by tap k; 0 where there is none.
SIMT_DEVICE int positions_behind(const ConvolutionSizes& in, int at, int k) {
  const int row = at / in.side - in.down[k], column = at % in.side - in.right[k];
  const bool inside = row < in.side && column >= 0 && column < in.side;
  return inside ? -(in.down[k] * in.side + in.right[k]) : 0;
}

SIMT_DEVICE void add_product(Four& sum, const Four& a, const Four& b) {
#pragma unroll
  for (int i = 0; i < 4; ++i) sum.x[i] = fmaf(a.x[i], b.x[i], sum.x[i]);
}

}  // namespace igpt::ops::cuda
