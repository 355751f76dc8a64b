// What surrounds the gradients of an update: its batch is copied, a byte a pixel, from the resident data set, and a few
// numbers are counted up. None of it takes time; all of it is on the device so that an update is launches alone.

#include "src/ops/cuda/batch.h"

#include "src/ops/cuda/philox.cuh"

namespace igpt::ops::cuda {
constexpr int kBatchThreads = 256;

SIMT_KERNEL(kBatchThreads)
start_update_kernel(UpdateStart in) {
  const int64_t i = int64_t{simt::block()} * kBatchThreads + simt::thread();
  if (i < in.count) in.gradients[i] = 0.0f;
  if (i > 0) return;
  const int64_t row = in.plan.next[0];
  *in.rate = static_cast<float>(in.plan.rates[row]);
  if (in.momentum) *in.momentum = static_cast<float>(in.plan.momenta[row]);
  *in.loss = 0.0;
}

/// The pixels by which an image is shifted.
SIMT_DEVICE int drawn_shift(const BatchAugmentation& in, uint64_t place, uint64_t which) {
  const double u = philox_uniform(in.seed, place, which);
  return static_cast<int>(static_cast<int64_t>(u * static_cast<double>(2 * in.shift + 1)) - in.shift);
}

/// The pixel of a row of `side` that stands for one up to side - 1 pixels outside.
SIMT_DEVICE int within(int x, int side, bool reflect) {
  if (x < 0) return reflect ? -x : 0;
  return x < side ? x : reflect ? 2 * (side - 1) - x : side - 1;
}

/// A block for each image.
SIMT_KERNEL(kBatchThreads)
gather_batch_kernel(BatchGather in, int side) {
  const int64_t b = simt::block(), row = in.plan.next[0];
  const int64_t image = in.plan.images[(row * in.batches + in.batch) * in.size + b];
  const uint64_t place = static_cast<uint64_t>(static_cast<int64_t>(in.plan.next[1]) + in.batch * in.stride + b);
  const BatchAugmentation& a = in.augmentation;
  const int down = a.shift > 0 ? drawn_shift(a, place, 0) : 0, right = a.shift > 0 ? drawn_shift(a, place, 1) : 0;
  const bool flip = a.flip && philox_uniform(a.seed, place, 2) < 0.5;
  const int length = static_cast<int>(in.images.length);
  const auto from = in.images.tokens + image * length;
  const auto to = in.tokens + b * length;
  for (int at = simt::thread(); at < length; at += kBatchThreads) {
    const int from_row = within(at / side - down, side, a.reflect), column = within(at % side - right, side, a.reflect);
    to[at] = static_cast<uint8_t>(from[from_row * side + (flip ? side - 1 - column : column)]);
  }
  if (in.labels && simt::thread() == 0) in.labels[b] = static_cast<int64_t>(in.images.labels[image]);
}

/// This and the next kernel use one thread.
SIMT_KERNEL(32)
end_update_kernel(UpdateEnd in) {
  if (simt::thread() > 0) return;
  in.plan.next[0] += int64_t{1};
  in.plan.next[1] += in.images;
  if (in.loss_sum) *in.loss_sum = static_cast<double>(*in.loss_sum) + static_cast<double>(*in.loss);
}

SIMT_KERNEL(32)
add_scaled_kernel(simt::Global<const double> from, double scale, simt::Global<double> to) {
  if (simt::thread() == 0) *to = static_cast<double>(*to) + scale * static_cast<double>(*from);
}

/// The side of a square image; 0 where it is none.
static int side_of(int64_t length) {
  int64_t side = 0;
  while (side * side < length) ++side;
  return side * side == length ? static_cast<int>(side) : 0;
}

const char* start_update(const UpdateStart& a, void* stream) {
  if (a.count <= 0) return "there are no parameters";
  const int64_t blocks = (a.count + kBatchThreads - 1) / kBatchThreads;
  return simt::launch({{blocks}, kBatchThreads, 0, stream}, start_update_kernel, a);
}

const char* gather_batch(const BatchGather& a, void* stream) {
  const int side = side_of(a.images.length);
  if (a.augmentation.any() && side == 0) return "only square images are shifted and flipped";
  return simt::launch({{a.size}, kBatchThreads, 0, stream}, gather_batch_kernel, a,
                      side > 0 ? side : static_cast<int>(a.images.length));
}

const char* end_update(const UpdateEnd& a, void* stream) {
  return simt::launch({{1}, 32, 0, stream}, end_update_kernel, a);
}

const char* add_scaled(const double* from, double scale, double* to, void* stream) {
  return simt::launch({{1}, 32, 0, stream}, add_scaled_kernel, from, scale, to);
}

}  // namespace igpt::ops::cuda
