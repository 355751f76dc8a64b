#pragma once

#include <cstdint>

namespace igpt::training {

/// What may be done to a training image at random, and leaves its label true.
struct Augmentation {
  int64_t shift = 0;  ///< pixels at most, up or down and left or right; the border's pixels fill the gap
  bool flip = false;  ///< left to right, half of the images

  bool any() const { return shift > 0 || flip; }
};

}  // namespace igpt::training
