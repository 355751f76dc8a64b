#pragma once

#include <cstdint>

namespace igpt::ops::cuda {

/// One update of all parameters, as training::FlatAdam and training::WeightAverage compute it, with everything that
/// changes from step to step in device memory, so that a captured graph can be replayed.
struct AdamUpdate {
  int64_t count = 0;                                                    ///< P
  float *weights = nullptr, *exp_avg = nullptr, *exp_avg_sq = nullptr;  ///< (P)
  const float* gradients = nullptr;                                     ///< (P)
  float* average = nullptr;              ///< (P): the weights' moving average; null: none
  const float* learning_rate = nullptr;  ///< (1)
  float* step = nullptr;                 ///< (1): updates so far; counted up
  float* norm = nullptr;                 ///< (1): the gradients' norm before clipping
  double* scratch = nullptr;             ///< (kAdamScratch)
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double largest_norm = 0;   ///< to which gradients are clipped; 0: no clipping
  double average_decay = 0;  ///< share that the average keeps, less in early updates
};
constexpr int kAdamScratch = 256 + 8;

/// Three launches. Null, or one line with the cause why not.
const char* adam_update(const AdamUpdate& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
