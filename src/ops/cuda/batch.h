#pragma once

#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// The training images, resident in device memory as palette indices in bytes.
struct DeviceImages {
  int64_t count = 0, length = 0;       ///< N, S
  simt::Global<const uint8_t> tokens;  ///< (N, S)
  simt::Global<const int64_t> labels;  ///< (N); null: none
};

/// What the next updates of a training read, so that a captured update can be replayed: each takes its own row and
/// advances to the next.
struct UpdatePlan {
  int64_t updates = 0;                 ///< U: planned ones
  simt::Global<const int64_t> images;  ///< (U, batches of an update, B): indices in the data set
  simt::Global<const float> rates;     ///< (U): learning rates
  simt::Global<int64_t> next;  ///< (2): the row of the next update, and the place in the training of its first image
  simt::Global<const float> momenta;  ///< (U): of Muon, which updates the blocks' matrices; null: Adam updates all
};

/// training::Augmentation, with the random numbers of training::augment.
struct BatchAugmentation {
  int64_t shift = 0;
  bool flip = false;
  bool reflect = false;
  uint64_t seed = 0;

  bool any() const { return shift > 0 || flip; }
};

/// Before an update's first batch: sets gradients and loss to zero and takes rate and momentum from the plan.
struct UpdateStart {
  UpdatePlan plan;
  int64_t count = 0;              ///< P
  simt::Global<float> gradients;  ///< (P)
  simt::Global<float> rate;       ///< (1)
  simt::Global<double> loss;      ///< (1): of the update, so far
  simt::Global<float> momentum;   ///< (1); null where the plan has none
};

/// Gathers a batch of the next update.
struct BatchGather {
  DeviceImages images;
  UpdatePlan plan;
  BatchAugmentation augmentation;
  int64_t size = 0;                ///< B
  int64_t batch = 0, batches = 1;  ///< this one, of so many in the update
  int64_t stride = 0;              ///< images of the training from one batch to the next
  simt::Global<uint8_t> tokens;    ///< (B, S)
  simt::Global<int64_t> labels;    ///< (B); null: none
};

/// After the last batch: advances the plan by a row, which is `images` images of the training.
struct UpdateEnd {
  UpdatePlan plan;
  int64_t images = 0;
  simt::Global<const double> loss;  ///< (1)
  simt::Global<double> loss_sum;    ///< (1): grows by it; null: none
};

/// Each is a launch on `stream` (cudaStream_t) of the current device. Returns null, or one line with the cause of a
/// failure.
const char* start_update(const UpdateStart& arguments, void* stream = nullptr);
const char* gather_batch(const BatchGather& arguments, void* stream = nullptr);
const char* end_update(const UpdateEnd& arguments, void* stream = nullptr);

/// to += scale * from
const char* add_scaled(const double* from, double scale, double* to, void* stream = nullptr);

}  // namespace igpt::ops::cuda
