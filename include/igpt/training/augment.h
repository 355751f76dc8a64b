#pragma once

#include <cstdint>

#include "igpt/libtorch.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

/// tokens (B, S) of square images -> the same shape and dtype, augmented. The image at place `b` depends on `seed` and
/// `position` + b alone, so that a training repeats and resumes exactly.
torch::Tensor augment(const torch::Tensor& tokens, const Augmentation& augmentation, int64_t seed, int64_t position);

/// The seed of those random numbers (sampling::uniform); their stream is the place, 0 and 1 draw how far an image is
/// moved down and right, 2 whether it is flipped.
uint64_t augmentation_seed(int64_t seed);

}  // namespace igpt::training
