#include "src/ops/cuda/batch.h"

#include "src/ops/cuda/batch.cuh"

namespace igpt::ops::cuda {
namespace {

/// Of a square image; 0 where it is none.
int side_of(int64_t length) {
  int64_t side = 0;
  while (side * side < length) ++side;
  return side * side == length ? static_cast<int>(side) : 0;
}

}  // namespace

const char* start_update(const UpdateStart& a, void* stream) {
  if (a.count <= 0) return "there are no parameters";
  const UpdateStartArguments arguments{a.count,
                                       simt::device_ptr(a.plan.rates),
                                       simt::device_ptr(a.plan.next),
                                       simt::device_ptr(a.gradients),
                                       simt::device_ptr(a.rate),
                                       simt::device_ptr(a.loss)};
  return simt::launch({{(a.count + kBatchThreads - 1) / kBatchThreads}, kBatchThreads, 0, stream}, start_update_of,
                      arguments);
}

const char* gather_batch(const BatchGather& a, void* stream) {
  const BatchAugmentation& augmentation = a.augmentation;
  const int side = side_of(a.images.length);
  if (augmentation.any() && side == 0) return "only square images are shifted and flipped";
  const BatchGatherArguments arguments{a.size,
                                       a.batch,
                                       a.batches,
                                       a.stride,
                                       augmentation.shift,
                                       static_cast<int>(a.images.length),
                                       side > 0 ? side : static_cast<int>(a.images.length),
                                       augmentation.flip,
                                       augmentation.seed,
                                       simt::device_ptr(a.images.tokens),
                                       simt::device_ptr(a.images.labels),
                                       simt::device_ptr(a.plan.images),
                                       simt::device_ptr(a.plan.next),
                                       simt::device_ptr(a.tokens),
                                       simt::device_ptr(a.labels)};
  return simt::launch({{a.size}, kBatchThreads, 0, stream}, gather_batch_of, arguments);
}

const char* end_update(const UpdateEnd& a, void* stream) {
  const UpdateEndArguments arguments{a.images, simt::device_ptr(a.plan.next), simt::device_ptr(a.loss),
                                     simt::device_ptr(a.loss_sum)};
  return simt::launch({{1}, 32, 0, stream}, end_update_of, arguments);
}

const char* add_scaled(const double* from, double scale, double* to, void* stream) {
  return simt::launch({{1}, 32, 0, stream}, add_scaled_of,
                      AddScaledArguments{scale, simt::device_ptr(from), simt::device_ptr(to)});
}

}  // namespace igpt::ops::cuda
