#pragma once

// Sums over the parts that blocks, images or positions left: always in the same order, so that results are the same
// bits in every run. A part is read once, neighbouring lanes read neighbouring floats.

#include "src/ops/cuda/block_sum.cuh"

namespace igpt::ops::cuda {

constexpr int kSumColumns = 32, kSumSlices = kSumThreads / kSumColumns;
constexpr int kMostSums = 6;  // of one launch

/// to[group * to_stride + i] = the sum over the parts of from[group * group_stride + part * part_stride + i], i <
/// count; added to what is there where `add`.
struct DeviceSum {
  simt::ptr<const float> from;
  simt::ptr<float> to;
  int64_t groups, parts, count, group_stride, part_stride, to_stride;
  bool add;

  /// Blocks that compute it.
  SIMT_ANYWHERE int64_t blocks() const { return groups * blocks_of_group(); }
  SIMT_ANYWHERE int64_t blocks_of_group() const { return (count + kSumColumns - 1) / kSumColumns; }
};

struct OrderedSumsArguments {
  DeviceSum sums[kMostSums];
};

constexpr int kOrderedSumsBytes = kSumThreads * 4;

SIMT_KERNEL(kSumThreads)
add_parts_of(SIMT_ARGUMENT OrderedSumsArguments in) {
  simt::Arena arena;
  const auto slices = arena.take<float>(kSumThreads, "sums of slices");
  int which = 0;
  int64_t block = simt::block();
  for (; block >= in.sums[which].blocks(); ++which) block -= in.sums[which].blocks();
  const DeviceSum& sum = in.sums[which];
  const int64_t group = block / sum.blocks_of_group();
  const int64_t column = block % sum.blocks_of_group() * kSumColumns + simt::lane();
  float total = 0.0f;
  if (column < sum.count) {
    const auto from = sum.from + (group * sum.group_stride + column);
#pragma unroll 4
    for (int64_t part = simt::warp(); part < sum.parts; part += kSumSlices) total += from[part * sum.part_stride];
  }
  slices[simt::thread()] = total;
  simt::sync_threads();
  if (simt::warp() > 0 || column >= sum.count) return;
  const auto to = sum.to + (group * sum.to_stride + column);
  total = sum.add ? static_cast<float>(*to) : 0.0f;
#pragma unroll
  for (int slice = 0; slice < kSumSlices; ++slice) total += slices[slice * kSumColumns + simt::lane()];
  *to = total;
}

struct TotalsArguments {
  simt::ptr<const float> from;
  simt::ptr<double> to;
  int64_t count;
  double scale;
};

/// to[block] = scale times the sum of its `count` floats, in double precision.
SIMT_KERNEL(kSumThreads)
totals_of(TotalsArguments in) {
  simt::Arena arena;
  const auto terms = arena.take<double>(kSumThreads, "terms");
  const auto from = in.from + simt::block() * in.count;
  double sum = 0.0;
  for (int64_t i = simt::thread(); i < in.count; i += kSumThreads) sum += static_cast<float>(from[i]);
  sum = sum_of_block(terms, sum);
  if (simt::thread() == 0) in.to[simt::block()] = in.scale * sum;
}

}  // namespace igpt::ops::cuda
