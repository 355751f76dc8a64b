#pragma once

#include <optional>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/data/split.h"
#include "igpt/training/options.h"

namespace igpt::training {

/// Throws igpt::UsageError on options that no training can have.
void check(const TrainOptions& options);

/// The checkpoint that the training starts from, if any; `options.model` becomes its model. Throws igpt::UsageError
/// where an option that the user gave contradicts it.
std::optional<Checkpoint> starting_checkpoint(TrainOptions& options);

/// The training images, and for a classifier their labels, checked against the model; without a starting checkpoint the
/// model's palette is that of the dataset.yaml beside them. Throws igpt::InputError.
data::Split read_training_split(TrainOptions& options, bool has_starting_checkpoint, const Hooks& hooks);

/// Writes the model's options into the settings and returns all settings with their types.
HyperParameters update_settings(TrainOptions& options);

}  // namespace igpt::training
