#pragma once

// What Adam's kernels compute once in an update, for whatever changes weights in it.

#include "src/ops/cuda/adam.h"
#include "src/ops/cuda/simt.h"

namespace igpt::ops::cuda {
constexpr int kNormBlocks = 256;

/// The factors of an update, the same for all parameters. They lie in the scratch memory after the sums of squares.
enum AdamFactor { kClip, kKeep, kStepSize, kInverseRootOfCorrection2, kAverageWeight, kFactors };
static_assert(kNormBlocks + kFactors <= kAdamScratch);

SIMT_DEVICE float factor(const AdamUpdate& in, AdamFactor which) {
  return static_cast<float>(static_cast<double>(in.scratch[kNormBlocks + which]));
}

/// `share` of the way from the average to the weight; the weight itself where that is 1.
SIMT_DEVICE float moved_average(float average, float weight, float share) {
  return share < 0.5f ? fmaf(share, weight - average, average) : weight - (weight - average) * (1.0f - share);
}

}  // namespace igpt::ops::cuda
