#include "igpt/data/palette.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>

#include "igpt/error.h"

namespace igpt::data {
namespace {

constexpr int64_t kMaximumColours = 256;  // a token is a byte

void check(const Palette& palette) {
  const bool whole = (palette.channels == 1 || palette.channels == 3) &&
                     palette.colours.size() % static_cast<size_t>(palette.channels) == 0;
  if (!whole || palette.size() < 1 || palette.size() > kMaximumColours)
    throw InputError("a palette has 1 to 256 grey or RGB colours, not " + std::to_string(palette.colours.size()) +
                     " values of " + std::to_string(palette.channels) + " channels");
  if (!palette.centroids.empty() && palette.centroids.size() != palette.colours.size())
    throw InputError("a palette of " + std::to_string(palette.colours.size()) + " values has " +
                     std::to_string(palette.centroids.size()) + " of centroids");
}

// Squared distance of a pixel to colour k. The sum of at most three squares of bytes is exact in single precision.
float distance(const Palette& palette, size_t k, const uint8_t* pixel) {
  const auto channels = static_cast<size_t>(palette.channels);
  float aa = 0, ab = 0, bb = 0, sum = 0;
  for (size_t c = 0; c < channels; ++c) {
    const auto difference = static_cast<float>(pixel[c] - palette.colours[k * channels + c]);
    sum += difference * difference;
    if (palette.centroids.empty()) continue;
    const float a = static_cast<float>(pixel[c]) / 255, b = palette.centroids[k * channels + c];
    aa += a * a, ab += a * b, bb += b * b;
  }
  return palette.centroids.empty() ? sum : aa - 2 * ab + bb;
}

uint8_t nearest(const Palette& palette, const uint8_t* pixel) {
  float best = std::numeric_limits<float>::infinity();
  uint8_t token = 0;
  for (size_t k = 0; k < static_cast<size_t>(palette.size()); ++k)
    if (const float candidate = distance(palette, k, pixel); candidate < best) {
      best = candidate;
      token = static_cast<uint8_t>(k);
    }
  return token;
}

// The token of every grey value.
std::array<uint8_t, 256> grey_table(const Palette& palette) {
  const bool original = palette == Palette::grey(16);
  std::array<uint8_t, 256> table = {};
  for (int byte = 0; byte < 256; ++byte) {
    const auto value = static_cast<uint8_t>(byte);
    table[value] = original ? value / 17 : nearest(palette, &value);
  }
  return table;
}

}  // namespace

Palette Palette::grey(int64_t size) {
  if (size < 2 || size > kMaximumColours)
    throw InputError("a grey palette has 2 to 256 colours, not " + std::to_string(size));
  Palette palette;
  for (int64_t k = 0; k < size; ++k)
    palette.colours.push_back(static_cast<uint8_t>((int64_t{2} * 255 * k + size - 1) / (2 * (size - 1))));
  return palette;
}

Palette Palette::of_centroids(std::vector<float> centroids, int64_t channels) {
  Palette palette;
  palette.channels = channels;
  constexpr float rounding = 1e-4f;  // error of a mean of pixels
  for (const float value : centroids) {
    if (!(value >= -rounding && value <= 1 + rounding))
      throw InputError("a centroid of the palette has the value " + std::to_string(value) + ", which is not in [0, 1]");
    palette.colours.push_back(static_cast<uint8_t>(std::clamp(std::lround(value * 255), 0L, 255L)));
  }
  palette.centroids = std::move(centroids);
  const bool whole = (channels == 1 || channels == 3) && palette.colours.size() % static_cast<size_t>(channels) == 0;
  if (!whole || palette.size() < 1)
    throw InputError("the centroids of a palette are grey or RGB colours, not " +
                     std::to_string(palette.colours.size()) + " values of " + std::to_string(channels) + " channels");
  return palette;
}

void encode(const Palette& palette, std::span<const uint8_t> pixels, std::span<uint8_t> tokens) {
  check(palette);
  const auto channels = static_cast<size_t>(palette.channels);
  if (pixels.size() != tokens.size() * channels)
    throw InputError(std::to_string(pixels.size()) + " bytes are not " + std::to_string(tokens.size()) + " pixels of " +
                     std::to_string(channels) + " channels");
  if (channels == 1) {
    const auto table = grey_table(palette);
    std::ranges::transform(pixels, tokens.begin(), [&](uint8_t byte) { return table[byte]; });
    return;
  }
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = nearest(palette, pixels.data() + i * channels);
}

}  // namespace igpt::data
