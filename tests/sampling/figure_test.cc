#include "igpt/sampling/figure.h"

#include <gtest/gtest.h>

namespace igpt::sampling {
namespace {

// The original's 16 greys.
const torch::Tensor kGreys = (torch::arange(16) * 17).to(torch::kUInt8).unsqueeze(1);

// Pixel (y, x) of a figure that is `columns` images wide, worked out one by one.
TEST(Figure, EveryPixelIsWhereItBelongs) {
  const int64_t examples = 2, num_samples = 3, side = 4, context_rows = 1;
  torch::manual_seed(1);
  const auto originals = torch::randint(0, 16, {examples, side, side}, torch::kUInt8);
  const auto samples = torch::randint(0, 16, {examples, num_samples, side, side}, torch::kInt64);
  for (const int64_t scale : {1, 3}) {
    const auto figure = completion_figure(kGreys, originals, samples, context_rows, static_cast<double>(scale));
    const int64_t tile = side * scale;
    ASSERT_EQ(figure.channels, 1);
    ASSERT_EQ(figure.height, examples * tile);
    ASSERT_EQ(figure.width, (num_samples + 2) * tile);
    ASSERT_EQ(figure.pixels.size(), static_cast<size_t>(figure.height * figure.width));
    for (int64_t y = 0; y < figure.height; ++y)
      for (int64_t x = 0; x < figure.width; ++x) {
        const int64_t e = y / tile, column = x / tile, row = y % tile / scale, col = x % tile / scale;
        int64_t token = 0;
        if (column > 0 && column <= num_samples)
          token = samples[e][column - 1][row][col].item<int64_t>();
        else if (column > num_samples || row < context_rows)
          token = originals[e][row][col].item<int64_t>();
        EXPECT_EQ(figure.pixels[static_cast<size_t>(y * figure.width + x)], token * 17) << y << ' ' << x;
      }
  }
}

TEST(Figure, ColoursStayTogether) {
  const auto palette = torch::tensor({10, 20, 30, 40, 50, 60}, torch::kUInt8).view({2, 3});
  const auto figure = completion_figure(palette, torch::tensor({{{1, 0}, {0, 1}}}),
                                        torch::empty({1, 0, 2, 2}, torch::kInt64), /*context_rows=*/1, /*scale=*/1);
  EXPECT_EQ(figure.channels, 3);
  EXPECT_EQ(figure.pixels, (std::vector<uint8_t>{40, 50, 60, 10, 20, 30, 40, 50, 60, 10, 20, 30,  //
                                                 0,  0,  0,  0,  0,  0,  10, 20, 30, 40, 50, 60}));
}

TEST(Figure, TheWholeImageOrNothingMayBeContext) {
  const auto original = torch::full({1, 2, 2}, 15, torch::kInt64);
  const auto samples = torch::empty({1, 0, 2, 2}, torch::kInt64);
  const auto whole = completion_figure(kGreys, original, samples, /*context_rows=*/2, 1);
  EXPECT_EQ(whole.pixels, std::vector<uint8_t>(8, 255));
  const auto none = completion_figure(kGreys, original, samples, /*context_rows=*/0, 1);
  EXPECT_EQ(none.pixels, (std::vector<uint8_t>{0, 0, 255, 255, 0, 0, 255, 255}));
}

TEST(Scale, FractionsTakeTheNearestPixel) {
  const auto row = torch::arange(4, torch::kUInt8).view({1, 4, 1});
  const auto at = [&](double scale) {
    const auto line = scaled(row, scale)[0].squeeze(-1).contiguous();
    return std::vector<uint8_t>(line.data_ptr<uint8_t>(), line.data_ptr<uint8_t>() + line.numel());
  };
  EXPECT_EQ(at(1.5), (std::vector<uint8_t>{0, 1, 1, 2, 3, 3}));
  EXPECT_EQ(at(0.5), (std::vector<uint8_t>{1, 3}));
  EXPECT_EQ(at(0.01), (std::vector<uint8_t>{2}));
  EXPECT_EQ(at(1), (std::vector<uint8_t>{0, 1, 2, 3}));
  EXPECT_EQ(scaled_side(28, 2.0), 56);
}

}  // namespace
}  // namespace igpt::sampling
