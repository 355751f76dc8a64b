#pragma once

#include <optional>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/data/split.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

/// The checkpoint from which the training starts, if any; `options.model` becomes its model. Throws igpt::UsageError
/// where an option that the user gave contradicts it.
std::optional<Checkpoint> starting_checkpoint(TrainOptions& options);

/// Whether a resumed run has done all its steps and validated the last.
bool has_nothing_left(const TrainOptions& options, int64_t step, const TrainingProgress& progress);

/// What a resumed run has reached that has nothing left to do, with a note that says so; nothing where it goes on.
/// Needs neither its data nor a folder that can be written to. Throws igpt::InputError.
std::optional<TrainResult> finished_run(const TrainOptions& options, const Hooks& hooks);

/// The training images, and for a classifier their labels, checked against the model. Without a starting checkpoint the
/// model takes the palette of the dataset.yaml beside them. Throws igpt::InputError.
data::Split read_training_split(TrainOptions& options, const std::optional<Checkpoint>& start, const Hooks& hooks);

/// Throws igpt::InputError when a run would be resumed on other images, or a classifier's run on other labels, than it
/// was trained on. `train_sha256` is data::fingerprint(split). Notes when that is not known, and (as a detail) when the
/// pretrained weights come from another data set.
void check_images(const TrainOptions& options, const Checkpoint& start, const data::Split& split,
                  const std::string& train_sha256, const Hooks& hooks);

}  // namespace igpt::training
