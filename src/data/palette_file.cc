#include "igpt/data/palette_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string_view>
#include <vector>

#include "igpt/error.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/npy.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;

constexpr double kRounding = 1e-4;  // of a mean of pixels

void check_shape(const fs::path& path, const std::vector<int64_t>& shape) {
  std::string words;
  for (const int64_t size : shape) words += (words.empty() ? "" : " x ") + std::to_string(size);
  if (shape.size() != 2 || (shape[1] != 1 && shape[1] != 3))
    throw InputError(path.string() + ": has the shape " + (words.empty() ? "of a single number" : words) +
                     ", a palette is V x 1 (grey) or V x 3 (RGB)");
  if (shape[0] < 2 || shape[0] > kLargestVocab)
    throw InputError(path.string() + ": has " + std::to_string(shape[0]) + " colours, a palette has 2 to " +
                     std::to_string(kLargestVocab));
}

template <class T>
void expect_different(const std::string& name, const std::vector<T>& values, int64_t channels) {
  std::map<std::array<T, 3>, size_t> places;
  const auto size = static_cast<size_t>(channels);
  for (size_t k = 0; k * size < values.size(); ++k) {
    std::array<T, 3> colour = {};
    for (size_t c = 0; c < size; ++c) colour[c] = values[k * size + c];
    const auto [other, is_new] = places.emplace(colour, k);
    if (!is_new)
      throw InputError(name + ": its colours " + std::to_string(other->second) + " and " + std::to_string(k) +
                       " are equal; a palette has different ones");
  }
}

PaletteFile of_floats(const fs::path& path) {
  const auto [shape, values] = formats::read_npy_floats(path);
  check_shape(path, shape);
  const bool is_signed = *std::ranges::min_element(values) < -kRounding;
  return {palette_of_floats(path.string(), values, shape[1], is_signed),
          is_signed ? "floats from -1 to 1" : "floats from 0 to 1"};
}

}  // namespace

Palette palette_of_floats(const std::string& name, const std::vector<double>& values, int64_t channels,
                          bool is_signed) {
  std::vector<float> centroids;
  for (const double value : values) {
    if (!(std::abs(value) <= 1 + kRounding))
      throw InputError(name + ": holds " + std::to_string(value) + " in colour " +
                       std::to_string(centroids.size() / static_cast<size_t>(channels)) +
                       "; a palette of floats has values from 0 to 1 or from -1 to 1");
    centroids.push_back(std::clamp(static_cast<float>(is_signed ? (value + 1) / 2 : value), 0.0f, 1.0f));
  }
  expect_different(name, centroids, channels);
  return Palette::of_centroids(std::move(centroids), channels);
}

bool is_npy(const fs::path& path) {
  if (path.extension() == ".npy") return true;
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;
  formats::InputFile file(path);
  std::array<std::byte, 6> start = {};
  file.read(start);
  return std::string_view(reinterpret_cast<const char*>(start.data()), start.size()) == "\x93NUMPY";
}

PaletteFile read_palette_file(const fs::path& path) {
  const auto header = formats::read_npy_header(path);
  check_shape(path, header.shape);  // before memory is taken
  if (header.dtype == formats::DType::float32 || header.dtype == formats::DType::float64) return of_floats(path);
  auto [shape, bytes] = formats::read_npy<uint8_t>(path, 0, UINT8_MAX, "a palette of whole numbers has bytes");
  check_shape(path, shape);
  expect_different(path.string(), bytes, shape[1]);
  return {Palette{shape[1], std::move(bytes)}, "bytes"};
}

}  // namespace igpt::data
