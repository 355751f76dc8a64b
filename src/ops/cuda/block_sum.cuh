#pragma once

#include "src/ops/cuda/simt.h"

namespace igpt::ops::cuda {

constexpr int kSumThreads = 256;
constexpr int kBlockSumBytes = kSumThreads * 8;

/// The sum of `term` over the threads of the block, a power of two of them; thread 0 gets it. `terms` has room for a
/// number of each.
SIMT_DEVICE double sum_of_block(simt::ptr<double> terms, double term) {
  terms[simt::thread()] = term;
  for (int half = simt::block_threads() / 2; half > 0; half /= 2) {
    simt::sync_threads();
    if (simt::thread() < half) terms[simt::thread()] += static_cast<double>(terms[simt::thread() + half]);
  }
  return simt::thread() == 0 ? static_cast<double>(terms[0]) : 0.0;
}

}  // namespace igpt::ops::cuda
