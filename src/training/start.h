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

/// The training images, and for a classifier their labels, checked against the model. Without a starting checkpoint the
/// model takes the palette of the dataset.yaml beside them. Throws igpt::InputError.
data::Split read_training_split(TrainOptions& options, const std::optional<Checkpoint>& start, const Hooks& hooks);

/// Throws igpt::InputError when a run is to be resumed on other images, or a classifier's on other labels, than it was
/// trained on. `train_sha256` is data::fingerprint(split). Says where that is not known, or (in detail) where the
/// pretrained weights come from another data set.
void check_images(const TrainOptions& options, const Checkpoint& start, const data::Split& split,
                  const std::string& train_sha256, const Hooks& hooks);

/// What is stored of the options: in hparams.yaml and as the hyper-parameters of checkpoints.
FieldValues settings_of(const TrainOptions& options);

}  // namespace igpt::training
