#pragma once

#include <string>
#include <vector>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/hooks.h"
#include "igpt/sampling/generate.h"

namespace igpt::sampling {

/// The device to compute on, told to the user.
torch::Device prepare_device(const std::string& text, int64_t threads, const Hooks& hooks);

void throw_if_stopped(const Hooks& hooks);

/// The checkpoint's model on `device`.
ImageGPT prepare_model(const Checkpoint& checkpoint, const torch::Device& device, const Hooks& hooks);

/// generate(), which tells how far it is and stops.
torch::Tensor draw_images(const ImageGPT& model, const torch::Tensor& context, const std::vector<uint64_t>& streams,
                          const SamplingOptions& options, const Hooks& hooks);

}  // namespace igpt::sampling
