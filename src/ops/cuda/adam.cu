// Adam (Kingma and Ba 2015) with the weight decay of AdamW, clipping by the global norm, and the weights' moving
// average: a norm in two stages and one pass over the parameters, which reads 20 bytes of each and writes 12 (24 and 16
// with an average).

#include "src/ops/cuda/adam.h"

#include "src/ops/cuda/adam_factors.cuh"
#include "src/ops/cuda/block_sum.cuh"

namespace igpt::ops::cuda {

SIMT_KERNEL(kSumThreads)
adam_squares(AdamUpdate in) {
  simt::SharedArena arena;
  const auto terms = arena.take<double>(kSumThreads, "terms");
  double sum = 0.0;
  for (int64_t i = int64_t{simt::block()} * kSumThreads + simt::thread(); i < in.count;
       i += kNormBlocks * kSumThreads) {
    const double gradient = static_cast<float>(in.gradients[i]);
    sum += gradient * gradient;
  }
  sum = sum_of_block(terms, sum);
  if (simt::thread() == 0) in.scratch[simt::block()] = sum;
}

/// Launched as one block.
SIMT_KERNEL(kSumThreads)
adam_factors(AdamUpdate in) {
  static_assert(kNormBlocks == kSumThreads);
  simt::SharedArena arena;
  const auto terms = arena.take<double>(kSumThreads, "terms");
  const double sum = sum_of_block(terms, in.scratch[simt::thread()]);
  if (simt::thread() > 0) return;
  const double norm = sqrt(sum), rate = static_cast<float>(*in.learning_rate);
  const double step = static_cast<float>(*in.step) + 1.0, early = (1.0 + step) / (10.0 + step);
  *in.step = static_cast<float>(step);
  *in.norm = static_cast<float>(norm);
  // A norm that is not finite propagates into the weights, as in PyTorch, where it is noticed.
  const double clip = in.largest_norm > 0.0 ? in.largest_norm / (norm + 1e-6) : 1.0;
  in.scratch[kNormBlocks + kClip] = clip > 1.0 ? 1.0 : clip;
  in.scratch[kNormBlocks + kKeep] = 1.0 - rate * in.weight_decay;
  in.scratch[kNormBlocks + kStepSize] = rate / (1.0 - pow(in.beta1, step));
  in.scratch[kNormBlocks + kInverseRootOfCorrection2] = 1.0 / sqrt(1.0 - pow(in.beta2, step));
  in.scratch[kNormBlocks + kAverageWeight] = 1.0 - (early < in.average_decay ? early : in.average_decay);
}

SIMT_DEVICE bool is_in_matrix(const BlockMatrices& blocks, int64_t i) {
  if (i < blocks.first || i >= blocks.first + int64_t{blocks.blocks} * blocks.block_count) return false;
  const int place = static_cast<int>(i - blocks.first) % blocks.block_count;
  bool inside = false;
#pragma unroll
  for (const ops::Matrix& matrix : blocks.matrices)
    inside |= place >= matrix.offset && place < matrix.offset + matrix.rows * matrix.columns;
  return inside;
}

SIMT_KERNEL(kSumThreads)
adam_step(AdamUpdate in) {
  const int64_t i = int64_t{simt::block()} * kSumThreads + simt::thread();
  if (i >= in.count || is_in_matrix(in.of_muon, i)) return;
  const float gradient = in.gradients[i] * factor(in, kClip);
  const float old_avg = in.exp_avg[i], old_sq = in.exp_avg_sq[i];
  const float avg = fmaf(static_cast<float>(1.0 - in.beta1), gradient - old_avg, old_avg);
  const float sq = fmaf(static_cast<float>(1.0 - in.beta2), gradient * gradient - old_sq, old_sq);
  in.exp_avg[i] = avg;
  in.exp_avg_sq[i] = sq;
  const float deviation = sqrtf(sq) * factor(in, kInverseRootOfCorrection2) + static_cast<float>(in.eps);
  const float weight = in.weights[i] * factor(in, kKeep) - factor(in, kStepSize) * avg / deviation;
  in.weights[i] = weight;
  if (in.average) in.average[i] = moved_average(in.average[i], weight, factor(in, kAverageWeight));
}

const char* adam_update(const AdamUpdate& a, void* stream) {
  if (a.count <= 0) return "there are no parameters";
  if (const char* cause = simt::launch({{kNormBlocks}, kSumThreads, kBlockSumBytes, stream}, adam_squares, a))
    return cause;
  if (const char* cause = simt::launch({{1}, kSumThreads, kBlockSumBytes, stream}, adam_factors, a)) return cause;
  return simt::launch({{(a.count + kSumThreads - 1) / kSumThreads}, kSumThreads, 0, stream}, adam_step, a);
}

}  // namespace igpt::ops::cuda
