#pragma once

#include <string>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/hooks.h"
#include "igpt/sampling/generate.h"

namespace igpt::sampling {

/// The device to compute on, told to the user.
torch::Device prepare_device(const std::string& text, int64_t threads, const Hooks& hooks);

void throw_if_stopped(const Hooks& hooks);

/// The checkpoint's model on `device`.
ImageGPT prepare_model(const Checkpoint& checkpoint, const torch::Device& device, const Hooks& hooks);

/// A callback that tells how many of `total` pixels are drawn, and stops.
DrawnCallback counting(int64_t total, const Hooks& hooks);

}  // namespace igpt::sampling
