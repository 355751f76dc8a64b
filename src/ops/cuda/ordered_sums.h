#pragma once

#include <initializer_list>

#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// to[g * to_stride + i] = sum over p < parts of from[g * group_stride + p * part_stride + i], for i < count of each of
/// the groups g.
struct OrderedSum {
  simt::Global<const float> from;
  simt::Global<float> to;
  int64_t groups = 1, parts = 0, count = 0, group_stride = 0, part_stride = 0, to_stride = 0;
  bool add = false;  ///< to what `to` holds
};

/// Up to six sums, none of which reads what another writes, in one launch.
const char* add_parts(std::initializer_list<OrderedSum> sums, void* stream = nullptr);

/// to (groups): scale times the sum of `count` floats each, in double precision.
const char* totals(const float* from, int64_t groups, int64_t count, double scale, double* to, void* stream = nullptr);

}  // namespace igpt::ops::cuda
