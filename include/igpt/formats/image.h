#pragma once

#include <cstdint>
#include <vector>

namespace igpt::formats {

/// A picture: `pixels` (height, width, channels) in [0, 255], channels 1 (grey) or 3 (RGB).
struct Image {
  int64_t height = 0, width = 0, channels = 1;
  std::vector<uint8_t> pixels;
};

}  // namespace igpt::formats
