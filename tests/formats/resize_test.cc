#include "igpt/formats/resize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "igpt/error.h"
#include "picture_files.h"

namespace igpt::formats {
namespace {

using igpt::testing::colourful;
using ::testing::Each;
using ::testing::ElementsAre;

// The average of an area by definition, in double precision.
std::vector<double> reference(const Image& image, int64_t side) {
  const auto shorter = static_cast<double>(std::min(image.width, image.height));
  const auto whole = [&](int64_t size) {
    return std::max(static_cast<double>(side), std::floor(static_cast<double>(size * side) / shorter + 0.5));
  };
  const double whole_x = whole(image.width), whole_y = whole(image.height);
  const double cut_x = std::floor((whole_x - static_cast<double>(side)) / 2);
  const double cut_y = std::floor((whole_y - static_cast<double>(side)) / 2);
  std::vector<double> result;
  for (int64_t row = 0; row < side; ++row)
    for (int64_t column = 0; column < side; ++column)
      for (int64_t c = 0; c < image.channels; ++c) {
        double sum = 0, area = 0;
        for (int64_t y = 0; y < image.height; ++y)
          for (int64_t x = 0; x < image.width; ++x) {
            const auto overlap = [](double cell, double whole_size, int64_t size, int64_t pixel) {
              const double scale = static_cast<double>(size) / whole_size;
              return std::max(0.0, std::min((cell + 1) * scale, static_cast<double>(pixel + 1)) -
                                       std::max(cell * scale, static_cast<double>(pixel)));
            };
            const double weight = overlap(cut_x + static_cast<double>(column), whole_x, image.width, x) *
                                  overlap(cut_y + static_cast<double>(row), whole_y, image.height, y);
            area += weight;
            sum += weight * image.pixels[static_cast<size_t>((y * image.width + x) * image.channels + c)];
          }
        result.push_back(sum / area);
      }
  return result;
}

struct Case {
  int64_t height, width, channels, side;
};

class SquareOf : public ::testing::TestWithParam<Case> {};

TEST_P(SquareOf, AveragesTheAreaOfEachPixel) {
  const auto [height, width, channels, side] = GetParam();
  const Image image = colourful(height, width, channels), square = square_of(image, side);
  EXPECT_EQ(square.width, side);
  EXPECT_EQ(square.height, side);
  EXPECT_EQ(square.channels, channels);
  const auto expected = reference(image, side);
  ASSERT_EQ(square.pixels.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(square.pixels[i], expected[i], 0.5 + 1e-9) << i;
}

INSTANTIATE_TEST_SUITE_P(Sizes, SquareOf,
                         ::testing::Values(Case{8, 8, 1, 8}, Case{8, 8, 3, 4}, Case{9, 7, 3, 4}, Case{7, 20, 1, 5},
                                           Case{40, 13, 3, 6}, Case{3, 5, 3, 8}, Case{1, 9, 1, 3}, Case{33, 32, 1, 32},
                                           Case{64, 48, 3, 1}));

TEST(SquareOfImage, OfTheSameSizeIsTheSame) {
  const Image image = colourful(12, 12, 3);
  EXPECT_EQ(square_of(image, 12).pixels, image.pixels);
}

TEST(SquareOfImage, CutsTheLongerSideEvenly) {
  EXPECT_THAT(square_of({1, 5, 1, {1, 2, 3, 4, 5}}, 1).pixels, ElementsAre(3));
  EXPECT_THAT(square_of({6, 2, 1, {1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6}}, 2).pixels, ElementsAre(3, 3, 4, 4));
}

TEST(SquareOfImage, LargeOnesOfOneColourKeepIt) {
  const Image white{3000, 4001, 1, std::vector<uint8_t>(3000 * 4001, 255)};
  EXPECT_THAT(square_of(white, 32).pixels, Each(255));
}

TEST(SquareOfImage, SizesThatDoNotFitAreRefused) {
  EXPECT_THROW(square_of({2, 2, 1, {1, 2, 3}}, 1), InputError);
  EXPECT_THROW(square_of({0, 0, 1, {}}, 1), InputError);
  EXPECT_THROW(square_of({1, 1, 1, {1}}, 0), InputError);
}

}  // namespace
}  // namespace igpt::formats
