#include "src/data/nearest_colour.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "src/data/parallel.h"

namespace igpt::data {
namespace {

constexpr size_t kFew = 6;      // colours that are rather compared than divided
constexpr int64_t kMany = 128;  // pixels for which a cell is divided: that takes about as long as their comparisons
// In units of a byte, more than the rounding of a^2 - 2 a b + b^2 (sums up to 2^19 of 24 bits).
constexpr float kSlack = 0.5f;

}  // namespace

// The pixels from `low` to `low` + `side` - 1 in each channel.
struct NearestColour::Box {
  int low[3], side;
  size_t level, place;  // of PixelCounts
};

void PixelCounts::add(std::span<const uint8_t> pixels) {
  for (size_t i = 0; i + 3 <= pixels.size(); i += 3) {
    size_t place = 0;  // two bits of each channel for each level
    for (int shift = 6; shift >= 2; shift -= 2)
      for (size_t c = 0; c < 3; ++c) place = place << 2 | static_cast<size_t>(pixels[i + c] >> shift & 3);
    ++counts_[2][place];
  }
  for (const size_t level : {1, 0}) {
    std::ranges::fill(counts_[level], 0);
    for (size_t k = 0; k < counts_[level + 1].size(); ++k) counts_[level][k >> 6] += counts_[level + 1][k];
  }
}

NearestColour::NearestColour(std::span<const float> colours, int64_t channels, float unit, const PixelCounts& pixels,
                             int threads)
    : channels_(channels), unit_(unit) {
  for (size_t byte = 0; byte < 256; ++byte)
    values_[byte] = unit == 1 ? static_cast<float>(byte) : static_cast<float>(byte) / 255;
  const size_t count = colours.size() / static_cast<size_t>(channels);
  for (size_t k = 0; k < count; ++k) {
    Colour colour = {};
    for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
      colour.value[c] = colours[k * static_cast<size_t>(channels) + c];
      colour.square += colour.value[c] * colour.value[c];
    }
    colours_.push_back(colour);
  }
  all_.resize(count);
  std::iota(all_.begin(), all_.end(), uint16_t{0});
  if (channels == 1) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const float a[3] = {values_[byte], 0, 0};
      int64_t least = INT64_MAX;
      for (const uint16_t k : all_) least = std::min(least, key(a, a[0] * a[0], k));
      greys_[byte] = static_cast<uint16_t>(least);
    }
    return;
  }
  in_parallel(64, threads, [&](int64_t begin, int64_t end) {
    for (auto k = static_cast<int>(begin); k < end; ++k) {
      Tree& tree = trees_[static_cast<size_t>(k)];
      tree.cells.resize(1);
      build(tree, 0, {{(k >> 4) * 64, (k >> 2 & 3) * 64, (k & 3) * 64}, 64, 0, static_cast<size_t>(k)}, all_, pixels);
    }
  });
}

// The colours that may be the nearest of a pixel in the box: those that are somewhere in it not further than every
// pixel in it is from another colour.
std::vector<uint16_t> NearestColour::of_box(const Box& box, std::span<const uint16_t> candidates) const {
  std::vector<float> nearest(candidates.size());
  float bound = std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < candidates.size(); ++i) {
    float least = 0, most = 0;
    for (size_t c = 0; c < 3; ++c) {
      const float value = colours_[candidates[i]].value[c] / unit_;
      const float above = value - static_cast<float>(box.low[c]);
      const float below = static_cast<float>(box.low[c] + box.side - 1) - value;
      const float inside = std::min(std::min(above, below), 0.0f), across = std::max(above, below);
      least += inside * inside;
      most += across * across;
    }
    nearest[i] = least;
    bound = std::min(bound, most);
  }
  std::vector<uint16_t> found;
  for (size_t i = 0; i < candidates.size(); ++i)
    if (nearest[i] <= bound + kSlack) found.push_back(candidates[i]);
  return found;
}

void NearestColour::build(Tree& tree, size_t cell, const Box& box, std::span<const uint16_t> candidates,
                          const PixelCounts& pixels) const {
  const int64_t count = box.side == 1 ? 1 : pixels.of(box.level, box.place);
  if (count == 0) {
    tree.cells[cell] = {0, kAll};
    return;
  }
  const auto found = of_box(box, candidates);
  if (found.size() <= kFew || count < kMany || box.side == 1) {
    tree.cells[cell] = {static_cast<uint32_t>(tree.colours.size()), static_cast<uint32_t>(found.size())};
    tree.colours.insert(tree.colours.end(), found.begin(), found.end());
    return;
  }
  const size_t first = tree.cells.size();
  tree.cells[cell] = {static_cast<uint32_t>(first), 0};
  tree.cells.resize(first + 64);
  // By way of eight halves of a side, which is less work.
  const int half = box.side / 2, side = box.side / 4;
  for (int octant = 0; octant < 8; ++octant) {
    const int place[3] = {octant >> 2, octant >> 1 & 1, octant & 1};
    Box eighth{{}, half, box.level, box.place};
    for (int c = 0; c < 3; ++c) eighth.low[c] = box.low[c] + place[c] * half;
    const auto of_eighth = of_box(eighth, found);
    for (int inner = 0; inner < 8; ++inner) {
      const int within[3] = {inner >> 2, inner >> 1 & 1, inner & 1};
      Box part{{}, side, box.level + 1, 0};
      size_t k = 0;
      for (int c = 0; c < 3; ++c) {
        part.low[c] = eighth.low[c] + within[c] * side;
        k = k << 2 | static_cast<size_t>(2 * place[c] + within[c]);
      }
      part.place = box.place << 6 | k;
      build(tree, first + k, part, of_eighth, pixels);
    }
  }
}

}  // namespace igpt::data
