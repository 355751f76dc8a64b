#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "igpt/libtorch.h"
#include "igpt/model/image_gpt.h"
#include "igpt/sampling/draw.h"

namespace igpt::sampling {

/// Pixels of one or several images have been drawn.
struct Drawn {
  int64_t first, count;         ///< images [first, first + count)
  int64_t begin, end;           ///< pixels [begin, end) of each, in raster order
  const torch::Tensor& tokens;  ///< (N, S) int64; of these images complete up to `end`

  int64_t pixels() const { return count * (end - begin); }
};

/// Called from one thread at a time. What it throws ends the drawing.
using DrawnCallback = std::function<void(const Drawn&)>;

/// Continues N images pixel by pixel with a key-value cache. `context` (N, s) with 0 <= s <= S holds their first
/// tokens, of any integer dtype. Returns the complete tokens (N, S) int64 on the CPU. `drawn` is told of every pixel
/// once, those of an image in order.
///
/// Image n draws from random stream streams[n] of options.seed: its pixels depend on its context, its stream and the
/// options, neither on the other images nor on the number of threads. Small models on the CPU are drawn an image at a
/// time in each thread (ops/cpu/decoder.h; told row by row). The others see always the same number of images, unused
/// places filled up, and on the CPU each such chunk is computed by one thread (told pixel by pixel). A device with a
/// sampler of its own (CUDA, small models) draws whole images, many at once, and tells of them when they are complete;
/// the first of a process are compared with what LibTorch's operations and draw() make of them, and on a difference
/// `note` is told in a line and the images are drawn with the model.
///
/// Throws igpt::UsageError for impossible options, igpt::InputError for a context outside the model's palette or size.
torch::Tensor generate(const ImageGPT& model, const torch::Tensor& context, const std::vector<uint64_t>& streams,
                       const SamplingOptions& options, const DrawnCallback& drawn = {},
                       const std::function<void(const std::string& line)>& note = {});

}  // namespace igpt::sampling
