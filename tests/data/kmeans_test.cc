#include "igpt/data/kmeans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "igpt/error.h"

namespace igpt::data {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Pixels around `clusters` colours, which lie far from each other.
std::vector<uint8_t> clustered(int64_t channels, int clusters, size_t count, double spread) {
  std::mt19937 random(7);
  std::normal_distribution<double> normal(0, spread);
  std::vector<uint8_t> pixels;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t cluster = random() % static_cast<uint32_t>(clusters);
    for (int64_t c = 0; c < channels; ++c) {
      const double centre = channels == 1 ? 255.0 * cluster / clusters + 10 : 30 + 65.0 * (cluster >> (2 * c) & 3);
      pixels.push_back(static_cast<uint8_t>(std::clamp(centre + normal(random), 0.0, 255.0)));
    }
  }
  return pixels;
}

// The mean of the squared distances to the nearest colour.
double inertia(const std::vector<uint8_t>& pixels, const Palette& palette) {
  const auto channels = static_cast<size_t>(palette.channels);
  std::vector<uint16_t> tokens(pixels.size() / channels);
  encode(palette, pixels, tokens);
  double sum = 0;
  for (size_t i = 0; i < pixels.size(); ++i)
    sum += std::pow(pixels[i] - palette.colours[tokens[i / channels] * channels + i % channels], 2);
  return sum / static_cast<double>(tokens.size());
}

int64_t different_colours(const Palette& palette) {
  std::set<std::vector<uint8_t>> colours;
  for (size_t k = 0; k < palette.colours.size(); k += static_cast<size_t>(palette.channels))
    colours.insert({palette.colours.begin() + static_cast<int64_t>(k),
                    palette.colours.begin() + static_cast<int64_t>(k) + palette.channels});
  return static_cast<int64_t>(colours.size());
}

TEST(Cluster, FindsTheColoursAroundWhichThePixelsLie) {
  const auto colour = clustered(3, 64, 40'000, 3);
  EXPECT_LT(inertia(colour, cluster(colour, 3, {.num_vocab = 64})), 3 * 9 * 1.1);
  const auto grey = clustered(1, 8, 20'000, 2);
  EXPECT_LT(inertia(grey, cluster(grey, 1, {.num_vocab = 8})), 4 * 1.1);
}

// A uniform line has an optimum that is known: V equal parts of width w, each with an error of (w^2 - 1) / 12, and that
// of the mean's rounding.
TEST(Cluster, OfGreysIsTheOptimum) {
  std::vector<uint8_t> pixels;
  for (int i = 0; i < 256 * 40; ++i) pixels.push_back(static_cast<uint8_t>(i));
  EXPECT_DOUBLE_EQ(inertia(pixels, cluster(pixels, 1, {.num_vocab = 16})), 255.0 / 12 + 0.25);
  // Against all palettes of three greys.
  const auto some = clustered(1, 3, 300, 30);
  const double found = inertia(some, cluster(some, 1, {.num_vocab = 3}));
  for (int a = 0; a < 256; a += 5)
    for (int b = a + 1; b < 256; b += 5)
      for (int c = b + 1; c < 256; c += 5)
        EXPECT_LE(found,
                  inertia(some, {1, {static_cast<uint8_t>(a), static_cast<uint8_t>(b), static_cast<uint8_t>(c)}}));
}

TEST(Cluster, TheSameSeedGivesTheSamePaletteWithAnyThreads) {
  for (const int64_t channels : {1, 3}) {
    const auto pixels = clustered(channels, 64, 400'000, 20);
    const Palette one = cluster(pixels, channels, {.num_vocab = 100, .seed = 5, .threads = 1});
    for (const int threads : {2, 7})
      EXPECT_EQ(cluster(pixels, channels, {.num_vocab = 100, .seed = 5, .threads = threads}), one);
    EXPECT_EQ(cluster(pixels, channels, {.num_vocab = 100, .seed = 6, .threads = 2}) == one, channels == 1);
  }
}

TEST(Cluster, ColoursAreDifferentAndFromDarkToBright) {
  for (const int64_t vocab : {2, 17, 200, 3000}) {
    const auto pixels = clustered(3, 64, 60'000, 8);
    const Palette palette = cluster(pixels, 3, {.num_vocab = vocab});
    ASSERT_EQ(palette.size(), vocab);
    EXPECT_EQ(different_colours(palette), vocab);
    std::vector<int> brightness;
    for (size_t k = 0; k < palette.colours.size(); k += 3)
      brightness.push_back(299 * palette.colours[k] + 587 * palette.colours[k + 1] + 114 * palette.colours[k + 2]);
    EXPECT_TRUE(std::ranges::is_sorted(brightness));
    EXPECT_TRUE(palette.centroids.empty());
  }
}

// Most pixels are black, and the others are too rare to be among those that are drawn at first.
TEST(Cluster, AsManyColoursAsThereAreAreThose) {
  std::vector<uint8_t> pixels(3 * 300'000), expected(3);
  for (size_t i = 1; i < 50; ++i)
    for (size_t c = 0; c < 3; ++c) {
      pixels[3 * (i * 5000) + c] = static_cast<uint8_t>(i + c);
      expected.push_back(static_cast<uint8_t>(i + c));
    }
  EXPECT_EQ(cluster(pixels, 3, {.num_vocab = 50}).colours, expected);
  EXPECT_EQ(different_colours(cluster(pixels, 3, {.num_vocab = 49})), 49);
}

TEST(Cluster, TooFewColoursAreCounted) {
  const std::vector<uint8_t> pixels = {1, 2, 3, 4, 5, 6, 1, 2, 3, 1, 2, 3};
  EXPECT_THAT([&] { cluster(pixels, 3, {.num_vocab = 3}); },
              ThrowsMessage<InputError>("a palette of 3 colours is not possible: the images have 2 different colours; "
                                        "give --num_vocab 2 or less"));
  EXPECT_THAT([&] { cluster(pixels, 1, {.num_vocab = 16}); },
              ThrowsMessage<InputError>(HasSubstr("6 different greys")));
  EXPECT_THROW(cluster({}, 3, {.num_vocab = 2}), InputError);
  for (const int64_t vocab : {-1, 0, 1, 32769})
    EXPECT_THROW(cluster(pixels, 3, {.num_vocab = vocab}), InputError) << vocab;
  EXPECT_THROW(cluster(pixels, 2, {.num_vocab = 2}), InputError);
  EXPECT_THROW(cluster(std::vector<uint8_t>(4), 3, {.num_vocab = 2}), InputError);
}

TEST(Cluster, WhatTheCallbackThrowsEndsTheWork) {
  const auto pixels = clustered(3, 64, 1000, 8);
  int calls = 0;
  EXPECT_THROW(cluster(pixels, 3,
                       {.num_vocab = 20,
                        .waiting =
                            [&] {
                              if (++calls == 30) throw Interrupted(15);
                            }}),
               Interrupted);
}

}  // namespace
}  // namespace igpt::data
