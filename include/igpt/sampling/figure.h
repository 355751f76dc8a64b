#pragma once

#include <cstdint>
#include <vector>

#include "igpt/formats/image.h"
#include "igpt/libtorch.h"

namespace igpt::sampling {

/// Pixels a side after scaling: round(side * scale), at least 1.
int64_t scaled_side(int64_t side, double scale);

/// For each pixel of a scaled side the one of `side` whose area holds its centre.
std::vector<int64_t> source_pixels(int64_t side, double scale);

/// Each image enlarged or reduced by nearest neighbour: (..., h, w, C) -> (..., h', w', C).
torch::Tensor scaled(const torch::Tensor& pixels, double scale);

/// Tokens (...) of any integer dtype, on the CPU -> the colours (..., C) uint8 that `palette` (V, C) has for them.
/// Throws igpt::InputError on a token outside [0, V).
torch::Tensor pixels_of(const torch::Tensor& tokens, const torch::Tensor& palette);

/// Images side by side without gaps, as the original lays them out: (rows, columns, h, w, C) -> (rows * h, columns * w,
/// C).
torch::Tensor tiled(const torch::Tensor& images);

/// Pixels (h, w, C) uint8 as a picture for a file.
formats::Image to_image(const torch::Tensor& pixels);

/// The figure of half-image completions, one row per example: the context of `context_rows` pixel rows with the rest
/// black, the K samples, the original. `originals` (E, h, w) and `samples` (E, K, h, w) are tokens.
formats::Image completion_figure(const torch::Tensor& palette, const torch::Tensor& originals,
                                 const torch::Tensor& samples, int64_t context_rows, double scale);

/// The same of images that were drawn from nothing: the samples alone.
formats::Image samples_figure(const torch::Tensor& palette, const torch::Tensor& samples, double scale);

}  // namespace igpt::sampling
