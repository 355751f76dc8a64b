#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "igpt/hooks.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

/// What a training with these options would be.
struct TrainingPlan {
  std::string device, kernels;  ///< "cuda:0"; Backend::name
  int64_t parameters = 0;
  int64_t train_images = 0, validation_images = 0;
  std::string dataset;  ///< "Fashion-MNIST"; empty: not known
  int64_t done_steps = 0, steps = 0;
  double steps_per_epoch = 0;
  int64_t memory = 0;  ///< bytes of the device for the data, the model and its training, about
  bool activation_checkpointing = false;
};

/// The options as a training with them has them: with what complete() (schedule.h) fills in, and with the model of the
/// checkpoint that it starts from. Reads that checkpoint and nothing else. The name may be missing yet. Throws
/// igpt::UsageError on options with which no training is possible.
TrainOptions configuration_of(TrainOptions options);

/// Reads and checks everything that train() does before its first step, and writes nothing. Throws as train().
TrainingPlan plan_training(const TrainOptions& options, const Hooks& hooks);

}  // namespace igpt::training
