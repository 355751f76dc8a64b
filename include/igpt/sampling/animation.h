#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "igpt/libtorch.h"
#include "igpt/sampling/animate.h"

namespace igpt::sampling {

/// Throws igpt::UsageError that names the option where images of `side` x `side` pixels make no possible GIF.
void check(const AnimationOptions& options, int64_t side);

/// Frames for images of `pixels` pixels: after 0, downsample, 2 downsample, ... pixels, and the complete image always
/// last. 158 for 28 x 28 pixels with every 5th.
int64_t frame_count(int64_t pixels, int64_t downsample);

/// Writes a GIF of images growing pixel by pixel in raster order, what is not drawn yet black. `tokens` (rows *
/// columns, h, w), placed row by row without gaps; `palette` (V, C) uint8. Their colours are exact unless
/// more than 255 of a palette of more than 256 are new in one frame: then they are the nearest of 256. `frame_done` is
/// called after each frame; what it throws ends the work. Throws igpt::UsageError for impossible options, igpt::Error
/// when the file cannot be written.
void write_animation(const std::filesystem::path& path, const torch::Tensor& tokens, const torch::Tensor& palette,
                     const AnimationOptions& options, const std::function<void()>& frame_done = {});

}  // namespace igpt::sampling
