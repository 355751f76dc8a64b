#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "igpt/model/image_gpt_options.h"

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

class NearestColour;

/// The nearest colour of each pixel (Chen et al. 2020, section 3.1), the first of several: what the comparison with
/// every colour finds, in less time. For the palette of 16 greys byte / 17 rounded down, as the original has it. A
/// palette with centroids is searched as the original's later versions do it (quantize in src/utils.py): pixels are
/// byte / 255, and distances a^2 - 2 a b + b^2 in single precision.
class PixelEncoder {
 public:
  /// `pixels`, each (n, C), are those that will be encoded, about: the search is prepared for them, in `threads`
  /// threads. Others are encoded as well, but more slowly. Throws igpt::InputError unless the palette has 1 to
  /// kLargestVocab grey or RGB colours.
  PixelEncoder(const Palette& palette, const std::vector<std::span<const uint8_t>>& pixels, int threads = 1);
  ~PixelEncoder();

  /// `pixels` (n, C) -> `tokens` (n), which may begin at the same byte unless they are longer. Throws igpt::InputError
  /// when the sizes do not match or the palette has colours whose index does not fit a token.
  void encode(std::span<const uint8_t> pixels, std::span<uint8_t> tokens) const;
  void encode(std::span<const uint8_t> pixels, std::span<uint16_t> tokens) const;

 private:
  template <class T>
  void encode_as(std::span<const uint8_t> pixels, std::span<T> tokens) const;

  int64_t channels_, size_;
  bool original_;  // 16 greys
  std::unique_ptr<const NearestColour> nearest_;
};

/// The same for pixels that are all there at once.
void encode(const Palette& palette, std::span<const uint8_t> pixels, std::span<uint8_t> tokens);
void encode(const Palette& palette, std::span<const uint8_t> pixels, std::span<uint16_t> tokens);

}  // namespace igpt::data
