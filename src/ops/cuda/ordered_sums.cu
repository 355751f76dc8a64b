// Sums over the parts that blocks, images or positions have left, always in the same order, so that results are the
// same bits in every run. Each part is read once; neighbouring lanes read neighbouring floats.

#include "src/ops/cuda/ordered_sums.h"

#include "src/ops/cuda/block_sum.cuh"

namespace igpt::ops::cuda {
constexpr int kSumColumns = 32, kSumSlices = kSumThreads / kSumColumns;
constexpr int kMostSums = 6;  // of one launch

SIMT_ANYWHERE int64_t blocks_of_group(const OrderedSum& sum) {
  return (sum.count + kSumColumns - 1) / kSumColumns;
}
SIMT_ANYWHERE int64_t blocks_of(const OrderedSum& sum) {
  return sum.groups * blocks_of_group(sum);
}

struct OrderedSums {
  OrderedSum sums[kMostSums];
};

constexpr int kOrderedSumsBytes = kSumThreads * 4;

SIMT_KERNEL(kSumThreads)
add_parts_kernel(SIMT_ARGUMENT OrderedSums in) {
  simt::SharedArena arena;
  const auto slices = arena.take<float>(kSumThreads, "sums of slices");
  int which = 0;
  int64_t block = simt::block();
  for (; block >= blocks_of(in.sums[which]); ++which) block -= blocks_of(in.sums[which]);
  const OrderedSum& sum = in.sums[which];
  const int64_t group = block / blocks_of_group(sum);
  const int64_t column = block % blocks_of_group(sum) * kSumColumns + simt::lane();
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

/// to[block] = scale times the sum of its `count` floats, in double precision.
SIMT_KERNEL(kSumThreads)
totals_kernel(simt::Global<const float> from, int64_t count, double scale, simt::Global<double> to) {
  simt::SharedArena arena;
  const auto terms = arena.take<double>(kSumThreads, "terms");
  const auto terms_of_block = from + simt::block() * count;
  double sum = 0.0;
  for (int64_t i = simt::thread(); i < count; i += kSumThreads) sum += static_cast<float>(terms_of_block[i]);
  sum = sum_of_block(terms, sum);
  if (simt::thread() == 0) to[simt::block()] = scale * sum;
}

const char* add_parts(std::initializer_list<OrderedSum> sums, void* stream) {
  OrderedSums arguments{};
  int64_t blocks = 0;
  int count = 0;
  for (const OrderedSum& sum : sums) {
    if (sum.groups <= 0 || sum.count <= 0 || sum.parts <= 0) continue;
    if (count == kMostSums) return "too many sums for one launch";
    arguments.sums[count++] = sum;
    blocks += blocks_of(sum);
  }
  if (blocks == 0) return nullptr;
  return simt::launch({{blocks}, kSumThreads, kOrderedSumsBytes, stream}, add_parts_kernel, arguments);
}

const char* totals(const float* from, int64_t groups, int64_t count, double scale, double* to, void* stream) {
  return simt::launch({{groups}, kSumThreads, kBlockSumBytes, stream}, totals_kernel, from, count, scale, to);
}

}  // namespace igpt::ops::cuda
