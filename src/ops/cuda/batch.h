#pragma once

#include <cstdint>

namespace igpt::ops::cuda {

/// The images that a training reads, resident in device memory: palette indices in bytes.
struct DeviceImages {
  int64_t count = 0, length = 0;    ///< N, S
  const uint8_t* tokens = nullptr;  ///< (N, S)
  const int64_t* labels = nullptr;  ///< (N); null: none
};

/// What the next updates of a training read, so that one that is recorded can be repeated: each takes its own row and
/// counts on.
struct UpdatePlan {
  int64_t updates = 0;              ///< U that are planned
  const int64_t* images = nullptr;  ///< (U, batches of an update, B): which of the data set
  const float* rates = nullptr;     ///< (U): learning rates
  int64_t* next = nullptr;  ///< (2): the row of the next update, and the place in the training of its first image
};

/// training::Augmentation, with the random numbers of training::augment.
struct BatchAugmentation {
  int64_t shift = 0;
  bool flip = false;
  uint64_t seed = 0;

  bool any() const { return shift > 0 || flip; }
};

/// Before an update's first batch: gradients and loss become zero, and the learning rate that of the plan.
struct UpdateStart {
  UpdatePlan plan;
  int64_t count = 0;  ///< P
  float* gradients;   ///< (P)
  float* rate;        ///< (1)
  double* loss;       ///< (1): of the update, so far
};

/// A batch of the update that is next.
struct BatchGather {
  DeviceImages images;
  UpdatePlan plan;
  BatchAugmentation augmentation;
  int64_t size = 0;                ///< B
  int64_t batch = 0, batches = 1;  ///< which of the update's
  int64_t stride = 0;              ///< images from the first of a batch to the first of the next in the training
  uint8_t* tokens;                 ///< (B, S)
  int64_t* labels;                 ///< (B); null: none
};

/// After its last one: the plan counts on by a row, of `images` images in the training.
struct UpdateEnd {
  UpdatePlan plan;
  int64_t images = 0;
  const double* loss;          ///< (1)
  double* loss_sum = nullptr;  ///< (1): grows by it; null: none
};

/// Each a launch on `stream` (cudaStream_t) of the current device. Null, or one line with the cause why not.
const char* start_update(const UpdateStart& arguments, void* stream = nullptr);
const char* gather_batch(const BatchGather& arguments, void* stream = nullptr);
const char* end_update(const UpdateEnd& arguments, void* stream = nullptr);

/// to += scale * from
const char* add_scaled(const double* from, double scale, double* to, void* stream = nullptr);

}  // namespace igpt::ops::cuda
