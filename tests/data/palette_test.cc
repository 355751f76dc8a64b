#include "igpt/data/palette.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

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
