#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace igpt::ops {

/// Where a pixel lies, seen from another one.
struct Neighbour {
  int64_t down, right;

  /// Whether it is within an image of that side, seen from (row, column).
  bool is_inside(int64_t row, int64_t column, int64_t side) const {
    return row + down >= 0 && column + right >= 0 && column + right < side;
  }
  int64_t squared_distance() const { return down * down + right * right; }
};

constexpr int64_t kMostNeighbours = 60;
constexpr int64_t kNeighbourReach = 6;  ///< rows above a pixel, and columns to both sides, in which they lie

/// The `count` pixels nearest to a pixel among those before it in raster order (rows above, and left in its own row), a
/// context as PixelCNN has it (van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders). Of equal
/// distance the lower comes first, then the one on the left.
inline std::vector<Neighbour> neighbourhood(int64_t count) {
  constexpr int64_t kReach = kNeighbourReach;  // 2 * 6 * 7 = 84, of which the 60 nearest lie in the half disc
  std::vector<Neighbour> neighbours;
  for (int64_t down = 0; down >= -kReach; --down)
    for (int64_t right = -kReach; right <= kReach; ++right)
      if (down < 0 || right < 0) neighbours.push_back({down, right});
  std::stable_sort(neighbours.begin(), neighbours.end(),
                   [](const Neighbour& a, const Neighbour& b) { return a.squared_distance() < b.squared_distance(); });
  neighbours.resize(static_cast<size_t>(count));
  return neighbours;
}

}  // namespace igpt::ops
