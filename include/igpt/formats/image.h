#pragma once

#include <cstdint>
#include <vector>

namespace igpt::formats {

/// An image: `pixels` (height, width, channels), with 1 (grey) or 3 (RGB) channels.
struct Image {
  int64_t height = 0, width = 0, channels = 1;
  std::vector<uint8_t> pixels;
};

}  // namespace igpt::formats
