#include "igpt/data/palette.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>

#include "igpt/error.h"

namespace igpt::data {
namespace {

using ::testing::ElementsAre;

std::vector<uint8_t> all_bytes() {
  std::vector<uint8_t> bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<uint8_t>(byte));
  return bytes;
}

// The pixels of grey tokens.
std::vector<uint8_t> decode(const Palette& palette, const std::vector<uint8_t>& tokens) {
  std::vector<uint8_t> pixels;
  for (const uint8_t token : tokens) pixels.push_back(palette.colours[token]);
  return pixels;
}

TEST(Palette, SixteenGreysAreTheOriginals) {
  const Palette palette = Palette::grey(16);
  const auto bytes = all_bytes();
  std::vector<uint8_t> tokens(256);
  encode(palette, bytes, tokens);
  for (int byte = 0; byte < 256; ++byte) ASSERT_EQ(tokens[static_cast<size_t>(byte)], byte / 17) << byte;
  const auto pixels = decode(palette, tokens);
  for (int byte = 0; byte < 256; ++byte) ASSERT_EQ(pixels[static_cast<size_t>(byte)], byte / 17 * 17) << byte;
}

TEST(Palette, GreysAreEvenlySpaced) {
  EXPECT_THAT(Palette::grey(2).colours, ElementsAre(0, 255));
  EXPECT_THAT(Palette::grey(3).colours, ElementsAre(0, 128, 255));
  EXPECT_THAT(Palette::grey(4).colours, ElementsAre(0, 85, 170, 255));
  EXPECT_THAT(Palette::grey(8).colours, ElementsAre(0, 36, 73, 109, 146, 182, 219, 255));
  EXPECT_EQ(Palette::grey(256).colours, all_bytes());
  for (const int64_t size : {-1, 0, 1, 257}) EXPECT_THROW(Palette::grey(size), InputError);
}

class GreyPalette : public ::testing::TestWithParam<int64_t> {};

TEST_P(GreyPalette, ChoosesTheNearestColour) {
  const Palette palette = Palette::grey(GetParam());
  const auto bytes = all_bytes();
  std::vector<uint8_t> tokens(256);
  encode(palette, bytes, tokens);
  const auto pixels = decode(palette, tokens);
  for (size_t i = 0; i < 256; ++i)
    for (const uint8_t colour : palette.colours)
      ASSERT_LE(std::abs(pixels[i] - bytes[i]), std::abs(colour - bytes[i])) << "byte " << i;
  std::vector<uint8_t> again(256);
  encode(palette, pixels, again);
  EXPECT_EQ(again, tokens);
}

INSTANTIATE_TEST_SUITE_P(Sizes, GreyPalette, ::testing::Values(2, 3, 8, 15, 17, 255, 256));

TEST(Palette, ColoursAreNearestInRgb) {
  const Palette palette{3, {0, 0, 0, 255, 0, 0, 0, 255, 0, 250, 250, 250}};
  const std::vector<uint8_t> pixels = {10, 20, 30, 200, 100, 0, 100, 200, 90, 255, 200, 255};
  std::vector<uint8_t> tokens(4);
  encode(palette, pixels, tokens);
  EXPECT_THAT(tokens, ElementsAre(0, 1, 2, 3));
}

TEST(Palette, OfCentroidsKeepsTheirOrderAndRoundsThem) {
  const Palette palette = Palette::of_centroids({0.6619206f, 0.0006868664f, 0.9893042f, 1.0f}, 1);
  EXPECT_THAT(palette.colours, ElementsAre(169, 0, 252, 255));
  EXPECT_THAT(Palette::of_centroids({0, 0.5f, 1}, 3).colours, ElementsAre(0, 128, 255));
  EXPECT_EQ(Palette::of_centroids({0, 0.5f, 1}, 3).size(), 1);
  EXPECT_THAT(Palette::of_centroids({-1e-6f, 1.000001f}, 1).colours, ElementsAre(0, 255));  // means of zeros and ones
  for (const float value : {-0.01f, 1.01f, NAN, INFINITY}) EXPECT_THROW(Palette::of_centroids({value}, 1), InputError);
  EXPECT_THROW(Palette::of_centroids({}, 1), InputError);
  EXPECT_THROW(Palette::of_centroids({0, 1}, 3), InputError);
  EXPECT_THROW(Palette::of_centroids({0, 1}, 0), InputError);
}

// Byte 15 lies between the colours 10 and 20, and nearer to the second of the centroids that they were rounded from.
TEST(Palette, CentroidsDecideWhichColourIsTheNearest) {
  const Palette exact = Palette::of_centroids({9.6f / 255, 19.6f / 255}, 1);
  Palette rounded = exact;
  rounded.centroids.clear();
  std::vector<uint8_t> tokens(2);
  encode(exact, std::vector<uint8_t>{14, 15}, tokens);
  EXPECT_THAT(tokens, ElementsAre(0, 1));
  encode(rounded, std::vector<uint8_t>{14, 15}, tokens);
  EXPECT_THAT(tokens, ElementsAre(0, 0));
  const Palette rgb = Palette::of_centroids({0, 0, 0, 1, 0, 0, 1, 1, 1}, 3);
  encode(rgb, std::vector<uint8_t>{200, 90, 90, 200, 180, 180}, tokens);
  EXPECT_THAT(tokens, ElementsAre(1, 2));
  rounded.centroids = {0.5f};
  EXPECT_THROW(encode(rounded, std::vector<uint8_t>(2), tokens), InputError);
}

std::vector<uint8_t> random_bytes(size_t count, uint32_t seed, int spread = 256) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random() % static_cast<uint32_t>(spread));
  return bytes;
}

// The argmin over all colours, as numpy finds it in single precision.
std::vector<uint16_t> brute_force(const Palette& palette, const std::vector<uint8_t>& pixels) {
  const auto channels = static_cast<size_t>(palette.channels);
  std::vector<uint16_t> tokens;
  for (size_t i = 0; i < pixels.size(); i += channels) {
    float best = INFINITY;
    uint16_t token = 0;
    for (size_t k = 0; k < static_cast<size_t>(palette.size()); ++k) {
      float aa = 0, ab = 0, bb = 0, sum = 0;
      for (size_t c = 0; c < channels; ++c) {
        const auto difference = static_cast<float>(pixels[i + c] - palette.colours[k * channels + c]);
        sum += difference * difference;
        if (palette.centroids.empty()) continue;
        const float a = static_cast<float>(pixels[i + c]) / 255, b = palette.centroids[k * channels + c];
        aa += a * a, ab += a * b, bb += b * b;
      }
      const float distance = palette.centroids.empty() ? sum : aa - 2 * ab + bb;
      if (distance < best) best = distance, token = static_cast<uint16_t>(k);
    }
    tokens.push_back(token);
  }
  return tokens;
}

struct Search {
  int64_t channels;
  size_t colours;
  int spread;  // colours lie in a corner of this size: the smaller, the more of them are equally near
  bool centroids;
};

class NearestColourOf : public ::testing::TestWithParam<Search> {};

TEST_P(NearestColourOf, IsTheFirstThatBruteForceFinds) {
  const auto& [channels, colours, spread, centroids] = GetParam();
  const auto bytes = random_bytes(colours * static_cast<size_t>(channels), 1, spread);
  Palette palette{channels, bytes};
  if (centroids) {
    std::mt19937 random(2);
    std::vector<float> values;
    for (const uint8_t byte : bytes)
      values.push_back(std::min(1.0f, (static_cast<float>(byte) + static_cast<float>(random() % 1000) / 1000) / 255));
    palette = Palette::of_centroids(values, channels);
  }
  auto pixels = random_bytes(600 * static_cast<size_t>(channels), 3);
  const auto near = random_bytes(600 * static_cast<size_t>(channels), 4, std::min(256, spread + 16));
  pixels.insert(pixels.end(), near.begin(), near.end());
  const auto expected = brute_force(palette, pixels);
  // Prepared for nothing, for a few of the pixels, and for so many that all cells are divided.
  auto many = near;
  for (int k = 0; k < 7; ++k) many.insert(many.end(), many.begin(), many.end());
  for (const auto& some : {std::vector<uint8_t>(), near, many}) {
    std::vector<uint16_t> tokens(expected.size());
    PixelEncoder(palette, {some}, /*threads=*/2).encode(pixels, tokens);
    EXPECT_EQ(tokens, expected) << "prepared for " << some.size() << " bytes";
  }
}

INSTANTIATE_TEST_SUITE_P(Palettes, NearestColourOf,
                         ::testing::Values(Search{3, 1, 256, false}, Search{3, 2, 256, false},
                                           Search{3, 16, 256, false}, Search{3, 512, 256, false},
                                           Search{3, 512, 10, false}, Search{3, 512, 256, true},
                                           Search{3, 512, 30, true}, Search{3, 4096, 20, false},
                                           Search{3, 32768, 256, false}, Search{3, 32768, 256, true},
                                           Search{1, 16, 256, true}, Search{1, 200, 256, false}));

TEST(PixelEncoder, TokensAreOneByteOrTwo) {
  const Palette many{3, random_bytes(3 * 257, 5)}, few{3, random_bytes(3 * 256, 6)};
  const auto pixels = random_bytes(300, 7);
  std::vector<uint8_t> bytes(100);
  std::vector<uint16_t> words(100);
  encode(few, pixels, bytes);
  encode(few, pixels, words);
  EXPECT_TRUE(std::ranges::equal(bytes, words));
  encode(many, pixels, words);
  EXPECT_THROW(encode(many, pixels, bytes), InputError);
  std::vector<uint8_t> in_place = pixels;
  encode(few, in_place, std::span(in_place).first(100));
  in_place.resize(100);
  EXPECT_EQ(in_place, bytes);
}

TEST(Palette, TokensMayReplaceTheirPixels) {
  std::vector<uint8_t> bytes = {0, 16, 17, 255};
  encode(Palette::grey(16), bytes, bytes);
  EXPECT_THAT(bytes, ElementsAre(0, 0, 1, 15));
}

TEST(Palette, RefusesWhatDoesNotFit) {
  std::vector<uint8_t> tokens(2);
  EXPECT_THROW(encode(Palette::grey(16), std::vector<uint8_t>(3), tokens), InputError);
  EXPECT_THROW(encode(Palette{3, {1, 2, 3}}, std::vector<uint8_t>(5), tokens), InputError);
  EXPECT_THROW(encode(Palette{2, {1, 2}}, std::vector<uint8_t>(4), tokens), InputError);
  EXPECT_THROW(encode(Palette{0, {1, 2}}, std::vector<uint8_t>(0), tokens), InputError);
  EXPECT_THROW(encode(Palette{3, {1, 2}}, std::vector<uint8_t>(6), tokens), InputError);
  EXPECT_THROW(encode(Palette{1, {}}, std::vector<uint8_t>(2), tokens), InputError);
  EXPECT_THROW(encode(Palette{1, std::vector<uint8_t>(257)}, std::vector<uint8_t>(2), tokens), InputError);
}

}  // namespace
}  // namespace igpt::data
