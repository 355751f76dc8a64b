#pragma once

#include "igpt/ops/model_shape.h"
#include "src/ops/cuda/simt_launch.h"

namespace igpt::ops::cuda {

/// Where the matrices of a model's blocks (ParameterTable::matrices) lie in the flat buffer.
struct BlockMatrices {
  static constexpr int kOfBlock = 6;

  int64_t first = 0;                    ///< the first block's offset
  int blocks = 0, block_count = 0;      ///< floats of a block
  ops::Matrix matrices[kOfBlock] = {};  ///< of a block, with offsets from its first float

  BlockMatrices() = default;  ///< none
  explicit BlockMatrices(const ParameterTable& table)
      : first(table.blocks.front().ln_1_weight),
        blocks(static_cast<int>(table.blocks.size())),
        block_count(static_cast<int>(table.block_count())) {
    for (size_t m = 0; m < kOfBlock; ++m) {
      matrices[m] = table.matrices[m];
      matrices[m].offset -= first;
    }
  }
};

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
  BlockMatrices of_muon;     ///< which muon_update() updates
};
constexpr int kAdamScratch = 256 + 8;

/// Three launches. Returns null, or one line with the cause of a failure.
const char* adam_update(const AdamUpdate& arguments, void* stream = nullptr);

}  // namespace igpt::ops::cuda
