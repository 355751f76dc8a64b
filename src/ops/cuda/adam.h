#pragma once

#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// One update of all parameters, as training::Adam and training::Ema compute it. Everything that changes
/// from step to step is in device memory, so that a captured graph can be replayed.
struct AdamUpdate {
  int64_t count = 0;                                 ///< P
  simt::Global<float> weights, exp_avg, exp_avg_sq;  ///< (P)
  simt::Global<const float> gradients;               ///< (P)
  simt::Global<float> average;                       ///< (P): the weights' moving average; null: none
  simt::Global<const float> learning_rate;           ///< (1)
  simt::Global<float> step;                          ///< (1): updates so far; counted up
  simt::Global<float> norm;                          ///< (1): the gradients' norm before clipping
  simt::Global<double> scratch;                      ///< (kAdamScratch)
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double largest_norm = 0;   ///< to which gradients are clipped; 0: no clipping
  double average_decay = 0;  ///< the share that the average keeps, less in early updates
};
constexpr int kAdamScratch = 256 + 8;

/// Three launches. Returns null, or one line with the cause of a failure.
const char* adam_update(const AdamUpdate& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
