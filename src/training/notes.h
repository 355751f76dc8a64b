#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/hooks.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

// Notes that a training writes for the user through the hooks, if there are any.

struct StartDescription {
  int64_t train_images = 0, validation_images = 0, parameters = 0;
  int64_t step = 0;     ///< where it begins or goes on
  std::string kernels;  ///< Backend::name
};
void describe_start(const TrainOptions& options, const StartDescription& start, const Hooks& hooks);

/// A resumed run with another number of steps than its `total_steps` before: the schedule moves, and the rate may jump.
void note_new_rate(const TrainOptions& options, int64_t total_steps, int64_t step, const Hooks& hooks);

void note_nothing_left(const TrainOptions& options, int64_t step, const Hooks& hooks);

void note_early_stop(const TrainOptions& options, const TrainingProgress& progress, int64_t step,
                     const std::filesystem::path& last_checkpoint, const Hooks& hooks);

}  // namespace igpt::training
