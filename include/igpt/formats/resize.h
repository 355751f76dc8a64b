#pragma once

#include <cstdint>

#include "igpt/formats/image.h"

namespace igpt::formats {

/// The middle of a picture as a square of `side` pixels: its shorter side is resized to `side`, the longer one in
/// proportion, rounded, and what is too long is cut off evenly. Each pixel of the result is the average of the area
/// that it covers, with exact fractional weights, rounded half up: the same on every machine.
Image square_of(const Image& image, int64_t side);

/// The luma of RGB pixels, (299 R + 587 G + 114 B) / 1000 (ITU-R BT.601) in fixed point as Pillow has it; a grey keeps
/// its value. (h, w, 3) -> (h, w, 1)
Image to_grey(const Image& image);

}  // namespace igpt::formats
