#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace igpt::data {

/// V colours of C channels; a token is the index of a colour.
struct Palette {
  int64_t channels = 1;          ///< C: 1 grey, 3 RGB
  std::vector<uint8_t> colours;  ///< (V, C)
  /// (V, C) in [0, 1]: the values from which the colours were rounded, such as the centroids of a k-means, or empty. If
  /// given, they decide which colour is the nearest.
  std::vector<float> centroids;

  int64_t size() const { return static_cast<int64_t>(colours.size()) / channels; }  ///< V
  bool operator==(const Palette&) const = default;

  /// V evenly spaced greys from black to white: round(255 k / (V - 1)), for V = 16 thus 0, 17, ..., 255. V is 2 to 256;
  /// throws igpt::InputError otherwise.
  static Palette grey(int64_t size);

  /// The centroids (V, C) and, as colours, the same rounded to bytes. Throws igpt::InputError when there are none, when
  /// they are not whole colours, or when one lies outside [0, 1].
  static Palette of_centroids(std::vector<float> centroids, int64_t channels);
};

/// The nearest colour of each pixel (Chen et al. 2020, section 3.1), the first of several; for the palette of 16 greys
/// byte / 17 rounded down, as the original has it. A palette with centroids is searched as the original's later
/// versions do it (quantize in src/utils.py): pixels are byte / 255, and distances a^2 - 2 a b + b^2 in single
/// precision. `pixels` (n, C) -> `tokens` (n), which may be the same memory when C is 1. Throws igpt::InputError when
/// the sizes do not match or the palette does not have 1 to 256 colours.
void encode(const Palette& palette, std::span<const uint8_t> pixels, std::span<uint8_t> tokens);

}  // namespace igpt::data
