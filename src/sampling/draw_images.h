#pragma once

#include <vector>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/hooks.h"
#include "igpt/sampling/generate.h"

namespace igpt::sampling {

/// The checkpoint's model on `device`.
ImageGPT prepare_model(const Checkpoint& checkpoint, const torch::Device& device, const Hooks& hooks);

/// The classes of N images: those `asked` for in turn, each for `times` images one after the other. Empty where the
/// model has no start token for each class. Throws igpt::UsageError for a class that it does not have, and for more
/// classes than have room; `option` is the one that makes room.
std::vector<int64_t> classes_of(const Checkpoint& checkpoint, const std::string& path,
                                const std::vector<int64_t>& asked, int64_t images, int64_t times,
                                const std::string& option);

/// generate() with progress reports, which stops for a stop signal. Errors of the model name `checkpoint`, its file.
torch::Tensor draw_images(const ImageGPT& model, const torch::Tensor& context, const std::vector<uint64_t>& streams,
                          const std::vector<int64_t>& classes, const ops::SamplingOptions& options,
                          const std::string& precision, const std::string& checkpoint, const Hooks& hooks);

}  // namespace igpt::sampling
