#pragma once

// What surrounds the gradients of an update: its batch is copied, a byte a pixel, from the resident data set, and a few
// numbers count on. Nothing of it takes time; all of it is on the device so that an update is launches alone.

#include "src/ops/cuda/batch.h"
#include "src/ops/cuda/philox.cuh"

namespace igpt::ops::cuda {

constexpr int kBatchThreads = 256;

struct UpdateStartArguments {
  int64_t count;
  simt::ptr<const float> rates;
  simt::ptr<const int64_t> next;
  simt::ptr<float> gradients, rate;
  simt::ptr<double> loss;
};

SIMT_KERNEL(kBatchThreads)
start_update_of(UpdateStartArguments in) {
  const int64_t i = int64_t{simt::block()} * kBatchThreads + simt::thread();
  if (i < in.count) in.gradients[i] = 0.0f;
  if (i > 0) return;
  *in.rate = static_cast<float>(in.rates[static_cast<int64_t>(in.next[0])]);
  *in.loss = 0.0;
}

struct BatchGatherArguments {
  int64_t size, batch, batches, stride, shift;
  int length, side;
  bool flip;
  uint64_t seed;
  simt::ptr<const uint8_t> images;
  simt::ptr<const int64_t> labels, chosen, next;
  simt::ptr<uint8_t> tokens;
  simt::ptr<int64_t> labels_of_batch;
};

/// Pixels by which an image is moved.
SIMT_DEVICE int drawn_shift(const BatchGatherArguments& in, uint64_t place, uint64_t which) {
  const double u = philox_uniform(in.seed, place, which);
  return static_cast<int>(static_cast<int64_t>(u * static_cast<double>(2 * in.shift + 1)) - in.shift);
}

SIMT_DEVICE int within(int x, int side) {
  return x < 0 ? 0 : x < side ? x : side - 1;
}

/// A block for each image.
SIMT_KERNEL(kBatchThreads)
gather_batch_of(BatchGatherArguments in) {
  const int64_t b = simt::block(), row = in.next[0];
  const int64_t image = in.chosen[(row * in.batches + in.batch) * in.size + b];
  const uint64_t place = static_cast<uint64_t>(static_cast<int64_t>(in.next[1]) + in.batch * in.stride + b);
  const int down = in.shift > 0 ? drawn_shift(in, place, 0) : 0, right = in.shift > 0 ? drawn_shift(in, place, 1) : 0;
  const bool flip = in.flip && philox_uniform(in.seed, place, 2) < 0.5;
  const auto from = in.images + image * in.length;
  const auto to = in.tokens + b * in.length;
  for (int at = simt::thread(); at < in.length; at += kBatchThreads) {
    const int from_row = within(at / in.side - down, in.side), column = within(at % in.side - right, in.side);
    to[at] = static_cast<uint8_t>(from[from_row * in.side + (flip ? in.side - 1 - column : column)]);
  }
  if (in.labels_of_batch && simt::thread() == 0) in.labels_of_batch[b] = static_cast<int64_t>(in.labels[image]);
}

struct UpdateEndArguments {
  int64_t images;
  simt::ptr<int64_t> next;
  simt::ptr<const double> loss;
  simt::ptr<double> loss_sum;
};

/// One thread of one warp, as the next.
SIMT_KERNEL(32)
end_update_of(UpdateEndArguments in) {
  if (simt::thread() > 0) return;
  in.next[0] += int64_t{1};
  in.next[1] += in.images;
  if (in.loss_sum) *in.loss_sum = static_cast<double>(*in.loss_sum) + static_cast<double>(*in.loss);
}

struct AddScaledArguments {
  double scale;
  simt::ptr<const double> from;
  simt::ptr<double> to;
};

SIMT_KERNEL(32)
add_scaled_of(AddScaledArguments in) {
  if (simt::thread() == 0) *in.to = static_cast<double>(*in.to) + in.scale * static_cast<double>(*in.from);
}

}  // namespace igpt::ops::cuda
