#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace igpt::data {

/// How many RGB pixels lie in each cell of the cube of all of them.
class PixelCounts {
 public:
  /// Adds pixels (n, 3).
  void add(std::span<const uint8_t> pixels);

  /// The number in a cell of 64, 16 or 4 pixels a side (level 0, 1 or 2).
  int64_t of(size_t level, size_t place) const { return counts_[level][place]; }

 private:
  std::array<std::vector<int64_t>, 3> counts_ = {std::vector<int64_t>(1 << 6), std::vector<int64_t>(1 << 12),
                                                 std::vector<int64_t>(1 << 18)};
};

/// Finds the nearest of at most 65,536 colours, the first of several, exactly as the comparison with every one of them
/// does: distances are a^2 - 2 a b + b^2 in single precision, which is exact where the colours are bytes.
///
/// The cube of all RGB pixels is divided into cells of 64 pixels a side, and a cell into those of 16, 4 and 1 where
/// that is worth its while: where more than a few colours may be the nearest of one of its pixels, and many pixels are
/// asked for. A pixel is then compared with the colours of its cell, which takes 30 to 60 ns whether there are 16
/// colours or 4,096.
class NearestColour {
 public:
  /// `colours` (V, channels) are multiples of a byte's unit: 1, or 1/255 for colours from 0 to 1. Takes `threads`
  /// threads for the work; the result does not depend on their number. `pixels` are those that will be asked for,
  /// about; they decide on the time that it takes, not on what is found.
  NearestColour(std::span<const float> colours, int64_t channels, float unit, const PixelCounts& pixels,
                int threads = 1);

  /// The index of the colour nearest to the `channels` bytes at `pixel`.
  uint32_t operator()(const uint8_t* pixel) const {
    if (channels_ == 1) return greys_[*pixel];
    const auto child = [&](int shift) {
      return static_cast<size_t>(pixel[0] >> shift & 3) << 4 | static_cast<size_t>(pixel[1] >> shift & 3) << 2 |
             static_cast<size_t>(pixel[2] >> shift & 3);
    };
    const Tree& tree = trees_[child(6)];
    const Cell* cell = &tree.cells[0];
    for (int shift = 4; cell->count == 0; shift -= 2) cell = &tree.cells[cell->first + child(shift)];
    if (cell->count == kAll) return nearest(pixel, all_);
    return nearest(pixel, std::span(tree.colours).subspan(cell->first, cell->count));
  }

 private:
  struct Colour {
    float value[3], square;  // b, b^2
  };
  // The colours from `first` on that may be the nearest of its pixels; with none, it is divided, and `first` is the
  // first of its 64 parts.
  struct Cell {
    uint32_t first = 0, count = 0;
  };
  static constexpr uint32_t kAll = UINT32_MAX;  // the count of a cell that nobody was going to ask for
  // A cell of 64 x 64 x 64 pixels with its parts.
  struct Tree {
    std::vector<Cell> cells;
    std::vector<uint16_t> colours;
  };
  struct Box;

  // Distances and indices are compared as one number, which takes no branch that a processor could guess wrongly.
  uint32_t nearest(const uint8_t* pixel, std::span<const uint16_t> candidates) const {
    float a[3], aa = 0;
    for (size_t c = 0; c < 3; ++c) a[c] = values_[pixel[c]], aa += a[c] * a[c];
    int64_t least = INT64_MAX;
    for (const uint16_t k : candidates) least = std::min(least, key(a, aa, k));
    return static_cast<uint16_t>(least);
  }
  int64_t key(const float* a, float aa, uint16_t k) const {
    const Colour& b = colours_[k];
    const float distance = aa - 2 * (a[0] * b.value[0] + a[1] * b.value[1] + a[2] * b.value[2]) + b.square;
    const auto bits = std::bit_cast<int32_t>(distance);  // of numbers below 0, which rounding makes, in reverse order
    return int64_t{bits ^ (bits >> 31 & INT32_MAX)} * 65536 + k;
  }
  void build(Tree& tree, size_t cell, const Box& box, std::span<const uint16_t> candidates,
             const PixelCounts& pixels) const;
  std::vector<uint16_t> of_box(const Box& box, std::span<const uint16_t> candidates) const;

  int64_t channels_;
  float unit_;
  std::vector<Colour> colours_;
  std::vector<uint16_t> all_;      // 0, 1, ..., V - 1
  std::array<float, 256> values_;  // of the bytes, in the unit of the colours
  std::array<uint16_t, 256> greys_ = {};
  std::array<Tree, 64> trees_;
};

}  // namespace igpt::data
