#pragma once

#include <cstdint>
#include <vector>

#include "igpt/backend/generation.h"
#include "igpt/libtorch.h"
#include "igpt/model/image_gpt.h"
#include "igpt/sampling/draw.h"

namespace igpt::sampling {

using backend::Drawn;
using backend::DrawnCallback;

/// Draws from `options` and each image's random stream, which must both outlive it.
backend::DrawToken draw_with(const ops::SamplingOptions& options, const std::vector<uint64_t>& streams);

/// Continues N images pixel by pixel with a key-value cache. `context` (N, s) with 0 <= s <= S holds their first
/// tokens, of any integer dtype. Returns the complete tokens (N, S) int64 on the CPU. `drawn` receives every pixel
/// once, those of an image in order.
///
/// Image n draws from random stream streams[n] of options.seed: its pixels depend on its context, its stream and the
/// options, neither on the other images nor on the number of threads. The CPU's kernels draw an image at a time in each
/// thread and report row by row; of large
/// models they draw several at once and report pixel by pixel, as LibTorch's operations do with a fixed number;
/// a device's kernels draw whole images and report them when all are complete.
///
/// `classes` (N): of the images, for a model that has a start token for each class; otherwise empty.
///
/// With `bf16` a large model's weights, keys and values are bfloat16 on the CPU, which is faster and rounds them.
///
/// Throws igpt::UsageError for impossible options, igpt::InputError for a context or classes that the model does not
/// have, and LogitsNotFinite.
torch::Tensor generate(const ImageGPT& model, const torch::Tensor& context, const std::vector<uint64_t>& streams,
                       const ops::SamplingOptions& options, const DrawnCallback& drawn = {}, bool bf16 = false,
                       const std::vector<int64_t>& classes = {});

}  // namespace igpt::sampling
