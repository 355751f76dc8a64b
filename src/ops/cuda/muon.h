#pragma once

#include "src/ops/cuda/adam.h"

namespace igpt::ops::cuda {

/// An update of the blocks' matrices as training::Muon computes it, beside Adam's of everything else: of its arrays it
/// takes those parts that are the matrices', exp_avg being their momentum, and it shares rate, clipping, weight decay
/// and the share of the average.
struct MuonUpdate {
  AdamUpdate adam;
  simt::Global<const float> momentum;  ///< (1)
};

int muon_shared_bytes(int embed);  ///< of a block

/// A launch after adam_update(update.adam). Returns null, or one line with the cause of a failure.
const char* muon_update(const MuonUpdate& update, void* stream = nullptr);

}  // namespace igpt::ops::cuda
