#pragma once

#include <cstdint>

#include "igpt/formats/image.h"

namespace igpt::formats {

/// The middle of a picture as a square of `side` pixels: its shorter side is resized to `side`, the longer one in
/// proportion, rounded, and what is too long is cut off evenly. Each pixel of the result is the average of the area
/// that it covers, with exact fractional weights, rounded half up: the same on every machine.
Image square_of(const Image& image, int64_t side);

}  // namespace igpt::formats
