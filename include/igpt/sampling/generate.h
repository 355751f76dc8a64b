#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "igpt/model/image_gpt.h"
#include "igpt/sampling/draw.h"

namespace igpt::sampling {

/// A pixel of several images has been drawn.
struct Drawn {
  int64_t first, count;         ///< images [first, first + count)
  int64_t position;             ///< of the pixel in raster order
  const torch::Tensor& tokens;  ///< (N, S) int64; of these images complete up to and including `position`
};

/// Called from one thread at a time. What it throws ends the drawing.
using DrawnCallback = std::function<void(const Drawn&)>;

/// Continues N images pixel by pixel with a key-value cache. `context` (N, s) with 0 <= s <= S holds their first
/// tokens, of any integer dtype. Returns the complete tokens (N, S) int64 on the CPU.
///
/// Image n draws from random stream streams[n] of options.seed: its pixels depend on its context, its stream and the
/// options, neither on the other images nor on the number of threads. For that the model always sees the same number of
/// images, unused places filled up, and on the CPU each such chunk is computed by one thread.
///
/// Throws igpt::UsageError for impossible options, igpt::InputError for a context outside the model's palette or size.
torch::Tensor generate(const ImageGPT& model, const torch::Tensor& context, const std::vector<uint64_t>& streams,
                       const SamplingOptions& options, const DrawnCallback& drawn = {});

}  // namespace igpt::sampling
