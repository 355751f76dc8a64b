#pragma once

#include "igpt/training/train_options.h"

namespace igpt::training {

/// The options with what they leave open: --warmup_steps and --ema, which follow from the images of an update.
TrainOptions complete(TrainOptions options);

/// The learning rate of update `step` (0, 1, ..., steps - 1): rises linearly over warmup_steps, stays until hold *
/// steps, then falls to zero at `steps` as the schedule says (cosine: Loshchilov and Hutter 2017, equation 5, without
/// restarts).
double learning_rate(const TrainOptions& options, int64_t step);

/// Muon's momentum in update `step`: rises linearly from 0.85 to muon_momentum over the first 3 * warmup_steps updates.
/// A muon_momentum below 0.85 is there from the first.
double muon_momentum(const TrainOptions& options, int64_t step);

}  // namespace igpt::training
