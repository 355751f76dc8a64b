#include "src/ops/cuda/ordered_sums.h"

#include "src/ops/cuda/ordered_sums.cuh"

namespace igpt::ops::cuda {

const char* add_parts(std::initializer_list<OrderedSum> sums, void* stream) {
  OrderedSumsArguments arguments{};
  int64_t blocks = 0;
  int count = 0;
  for (const OrderedSum& sum : sums) {
    if (sum.groups <= 0 || sum.count <= 0 || sum.parts <= 0) continue;
    if (count == kMostSums) return "too many sums for one launch";
    DeviceSum& next = arguments.sums[count++];
    next = {simt::device_ptr(sum.from), simt::device_ptr(sum.to), sum.groups,    sum.parts, sum.count,
            sum.group_stride,           sum.part_stride,          sum.to_stride, sum.add};
    blocks += next.blocks();
  }
  if (blocks == 0) return nullptr;
  return simt::launch({{blocks}, kSumThreads, kOrderedSumsBytes, stream}, add_parts_of, arguments);
}

const char* totals(const float* from, int64_t groups, int64_t count, double scale, double* to, void* stream) {
  const TotalsArguments arguments{simt::device_ptr(from), simt::device_ptr(to), count, scale};
  return simt::launch({{groups}, kSumThreads, kBlockSumBytes, stream}, totals_of, arguments);
}

}  // namespace igpt::ops::cuda
