#pragma once

#include <vector>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/hooks.h"
#include "igpt/sampling/generate.h"

namespace igpt::sampling {

/// The checkpoint's model on `device`.
ImageGPT prepare_model(const Checkpoint& checkpoint, const torch::Device& device, const Hooks& hooks);

/// generate() with progress reports, which stops for a stop signal. Errors of the model name `checkpoint`, its file.
torch::Tensor draw_images(const ImageGPT& model, const torch::Tensor& context, const std::vector<uint64_t>& streams,
                          const ops::SamplingOptions& options, const std::string& precision,
                          const std::string& checkpoint, const Hooks& hooks);

}  // namespace igpt::sampling
