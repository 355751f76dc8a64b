#pragma once

// Adam (Kingma and Ba 2015) with the weight decay of AdamW, clipping by the global norm, and the weights' moving
// average: a norm in two stages and one pass over the parameters, 20 bytes read and 12 written of each (28 and 16 with
// an average).

#include "src/ops/cuda/adam.h"
#include "src/ops/cuda/block_sum.cuh"

namespace igpt::ops::cuda {

constexpr int kNormBlocks = 256;

struct AdamArguments {
  int64_t count;
  simt::ptr<float> weights, exp_avg, exp_avg_sq, average;
  simt::ptr<const float> gradients, learning_rate;
  simt::ptr<float> step, norm;
  simt::ptr<double> squares, factors;  // (kNormBlocks), (kFactors)
  double beta1, beta2, eps, weight_decay, largest_norm, average_decay;
};

/// What an update multiplies with, the same for all parameters.
enum AdamFactor { kClip, kKeep, kStepSize, kInverseRootOfCorrection2, kAverageWeight, kFactors };
static_assert(kNormBlocks + kFactors <= kAdamScratch);

SIMT_KERNEL(kSumThreads)
adam_squares(AdamArguments in) {
  simt::Arena arena;
  const auto terms = arena.take<double>(kSumThreads, "terms");
  double sum = 0.0;
  for (int64_t i = int64_t{simt::block()} * kSumThreads + simt::thread(); i < in.count;
       i += kNormBlocks * kSumThreads) {
    const double gradient = static_cast<float>(in.gradients[i]);
    sum += gradient * gradient;
  }
  sum = sum_of_block(terms, sum);
  if (simt::thread() == 0) in.squares[simt::block()] = sum;
}

/// One block.
SIMT_KERNEL(kSumThreads)
adam_factors(AdamArguments in) {
  static_assert(kNormBlocks == kSumThreads);
  simt::Arena arena;
  const auto terms = arena.take<double>(kSumThreads, "terms");
  const double sum = sum_of_block(terms, in.squares[simt::thread()]);
  if (simt::thread() > 0) return;
  const double norm = sqrt(sum), rate = static_cast<float>(*in.learning_rate);
  const double step = static_cast<float>(*in.step) + 1.0, early = (1.0 + step) / (10.0 + step);
  *in.step = static_cast<float>(step);
  *in.norm = static_cast<float>(norm);
  // A norm that is not finite goes on into the weights, as in PyTorch: it is seen there.
  const double clip = in.largest_norm > 0.0 ? in.largest_norm / (norm + 1e-6) : 1.0;
  in.factors[kClip] = clip > 1.0 ? 1.0 : clip;
  in.factors[kKeep] = 1.0 - rate * in.weight_decay;
  in.factors[kStepSize] = rate / (1.0 - pow(in.beta1, step));
  in.factors[kInverseRootOfCorrection2] = 1.0 / sqrt(1.0 - pow(in.beta2, step));
  in.factors[kAverageWeight] = 1.0 - (early < in.average_decay ? early : in.average_decay);
}

SIMT_KERNEL(kSumThreads)
adam_step(AdamArguments in) {
  const int64_t i = int64_t{simt::block()} * kSumThreads + simt::thread();
  if (i >= in.count) return;
  const auto factor = [&](AdamFactor which) { return static_cast<float>(static_cast<double>(in.factors[which])); };
  const float gradient = in.gradients[i] * factor(kClip);
  const float old_avg = in.exp_avg[i], old_sq = in.exp_avg_sq[i];
  const float avg = fmaf(static_cast<float>(1.0 - in.beta1), gradient - old_avg, old_avg);
  const float sq = fmaf(static_cast<float>(1.0 - in.beta2), gradient * gradient - old_sq, old_sq);
  in.exp_avg[i] = avg;
  in.exp_avg_sq[i] = sq;
  const float deviation = sqrtf(sq) * factor(kInverseRootOfCorrection2) + static_cast<float>(in.eps);
  const float weight = in.weights[i] * factor(kKeep) - factor(kStepSize) * avg / deviation;
  in.weights[i] = weight;
  if (!in.average) return;
  const float share = factor(kAverageWeight), average = in.average[i];
  in.average[i] = share < 0.5f ? fmaf(share, weight - average, average)
                               : weight - (weight - average) * (1.0f - share);  // exact where share is 1
}

}  // namespace igpt::ops::cuda
