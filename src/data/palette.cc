#include "igpt/data/palette.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "igpt/error.h"
#include "src/data/nearest_colour.h"

namespace igpt::data {
namespace {

constexpr int64_t kMostGreys = 256;

void check(const Palette& palette) {
  const bool whole = (palette.channels == 1 || palette.channels == 3) &&
                     palette.colours.size() % static_cast<size_t>(palette.channels) == 0;
  if (!whole || palette.size() < 1 || palette.size() > kLargestVocab)
    throw InputError("a palette has 1 to " + std::to_string(kLargestVocab) + " grey or RGB colours, not " +
                     std::to_string(palette.colours.size()) + " values of " + std::to_string(palette.channels) +
                     " channels");
  if (!palette.centroids.empty() && palette.centroids.size() != palette.colours.size())
    throw InputError("a palette of " + std::to_string(palette.colours.size()) + " values has " +
                     std::to_string(palette.centroids.size()) + " of centroids");
}

}  // namespace

Palette Palette::grey(int64_t size) {
  if (size < 2 || size > kMostGreys)
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

PixelEncoder::PixelEncoder(const Palette& palette, const std::vector<std::span<const uint8_t>>& pixels, int threads) {
  check(palette);
  channels_ = palette.channels;
  size_ = palette.size();
  original_ = channels_ == 1 && size_ == 16 && palette == Palette::grey(16);
  PixelCounts counts;
  if (channels_ == 3)
    for (const auto& some : pixels) counts.add(some);
  const std::vector<float> bytes(palette.colours.begin(), palette.colours.end());
  nearest_ = palette.centroids.empty()
                 ? std::make_unique<NearestColour>(bytes, channels_, /*unit=*/1.0f, counts, threads)
                 : std::make_unique<NearestColour>(palette.centroids, channels_, /*unit=*/1.0f / 255, counts, threads);
}

PixelEncoder::~PixelEncoder() = default;

template <class T>
void PixelEncoder::encode_as(std::span<const uint8_t> pixels, std::span<T> tokens) const {
  const auto channels = static_cast<size_t>(channels_);
  if (pixels.size() != tokens.size() * channels)
    throw InputError(std::to_string(pixels.size()) + " bytes are not " + std::to_string(tokens.size()) + " pixels of " +
                     std::to_string(channels) + " channels");
  if (size_ - 1 > std::numeric_limits<T>::max())
    throw InputError("a token of " + std::to_string(8 * sizeof(T)) + " bits is no index of " + std::to_string(size_) +
                     " colours");
  for (size_t i = 0; i < tokens.size(); ++i) {
    const uint8_t* pixel = pixels.data() + i * channels;
    tokens[i] = static_cast<T>(original_ ? *pixel / 17u : (*nearest_)(pixel));
  }
}

void PixelEncoder::encode(std::span<const uint8_t> pixels, std::span<uint8_t> tokens) const {
  encode_as(pixels, tokens);
}

void PixelEncoder::encode(std::span<const uint8_t> pixels, std::span<uint16_t> tokens) const {
  encode_as(pixels, tokens);
}

void encode(const Palette& palette, std::span<const uint8_t> pixels, std::span<uint8_t> tokens) {
  PixelEncoder(palette, {pixels}).encode(pixels, tokens);
}

void encode(const Palette& palette, std::span<const uint8_t> pixels, std::span<uint16_t> tokens) {
  PixelEncoder(palette, {pixels}).encode(pixels, tokens);
}

}  // namespace igpt::data
