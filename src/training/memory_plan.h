#pragma once

#include <algorithm>
#include <cstdint>

#include "igpt/hooks.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

/// What a training by LibTorch's operations takes of its device's memory, in bytes, computed from the shapes.
struct MemoryPlan {
  int64_t state = 0;         ///< weights, gradients, the optimizer's moments and the weights' average
  int64_t data = 0;          ///< the images and labels
  int64_t activations = 0;   ///< from a batch's forward pass to the end of its backward pass, at most
  int64_t checkpointed = 0;  ///< the same with activation checkpointing
  // When no activations are there:
  int64_t updating = 0;  ///< of an update by Muon
  int64_t drawing = 0;   ///< of the samples that a validation draws
  int64_t saving = 0;    ///< of a checkpoint that is written

  int64_t of_batch(bool checkpointing) const { return checkpointing ? checkpointed : activations; }
  int64_t total(bool checkpointing) const {
    return state + data + std::max({of_batch(checkpointing), updating, drawing, saving});
  }
};

/// For batches of `images` of this process and a data set of `data` bytes; `drawing` and `saving`, which not every
/// process does, are the caller's.
MemoryPlan plan_memory(const TrainOptions& options, int64_t images, int64_t data);

/// Bytes of the host's memory that a checkpoint takes while it is written.
int64_t bytes_to_save(const TrainOptions& options);

/// Throws igpt::Error that names the option where the weights and what the optimizer keeps of them take more than the
/// `most` bytes that can be had (0: unknown). Before anything is allocated: the system would end the process without a
/// word.
void expect_model_fits(const TrainOptions& options, int64_t most);

/// Whether to train with activation checkpointing: as the options say or, of `auto`, where the plan without it exceeds
/// the `available` bytes (0: unknown). Tells the plan, as a note where it is large or does not fit.
bool choose_activation_checkpointing(const TrainOptions& options, const MemoryPlan& plan, int64_t available,
                                     const Hooks& hooks);

}  // namespace igpt::training
