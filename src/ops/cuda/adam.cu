#include "src/ops/cuda/adam.h"

#include "src/ops/cuda/adam.cuh"

namespace igpt::ops::cuda {

const char* adam_update(const AdamUpdate& a, void* stream) {
  if (a.count <= 0) return "there are no parameters";
  const auto scratch = simt::device_ptr(a.scratch);
  const AdamArguments arguments{a.count,
                                simt::device_ptr(a.weights),
                                simt::device_ptr(a.exp_avg),
                                simt::device_ptr(a.exp_avg_sq),
                                simt::device_ptr(a.average),
                                simt::device_ptr(a.gradients),
                                simt::device_ptr(a.learning_rate),
                                simt::device_ptr(a.step),
                                simt::device_ptr(a.norm),
                                scratch,
                                scratch + kNormBlocks,
                                a.beta1,
                                a.beta2,
                                a.eps,
                                a.weight_decay,
                                a.largest_norm,
                                a.average_decay};
  if (const char* cause = simt::launch({{kNormBlocks}, kSumThreads, kBlockSumBytes, stream}, adam_squares, arguments))
    return cause;
  if (const char* cause = simt::launch({{1}, kSumThreads, kBlockSumBytes, stream}, adam_factors, arguments))
    return cause;
  return simt::launch({{(a.count + kSumThreads - 1) / kSumThreads}, kSumThreads, 0, stream}, adam_step, arguments);
}

}  // namespace igpt::ops::cuda
