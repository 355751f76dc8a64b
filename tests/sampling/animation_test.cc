#include "igpt/sampling/animation.h"

#include <gtest/gtest.h>

#include "igpt/error.h"
#include "igpt/sampling/figure.h"
#include "pictures.h"
#include "temporary_folder.h"

namespace igpt::sampling {
namespace {

using igpt::testing::decode_gif;
using igpt::testing::TemporaryFolder;

const auto greys = torch::arange(0, 256, 17, torch::kUInt8).unsqueeze(1);  // (16, 1)

TEST(Animation, FrameCounts) {
  EXPECT_EQ(frame_count(784, 5), 158);
  EXPECT_EQ(frame_count(784, 1), 785);
  EXPECT_EQ(frame_count(784, 784), 2);
  EXPECT_EQ(frame_count(784, 1000), 2);
  EXPECT_EQ(frame_count(10, 5), 3);
  EXPECT_EQ(frame_count(784, INT64_MAX), 2);
}

TEST(Animation, FramesGrowPixelByPixelToTheCompleteImage) {
  const TemporaryFolder folder;
  AnimationOptions options;
  options.rows = 2;
  options.columns = 3;
  options.scale = 2;
  options.downsample = 4;
  const int64_t side = 3, scale = 2, tile = side * scale;
  torch::manual_seed(1);
  const auto tokens = torch::randint(1, 16, {6, side, side}, torch::kInt64);
  int64_t told = 0;
  write_animation(folder / "out.gif", tokens, greys, options, [&] { ++told; });

  const auto animation = decode_gif(folder / "out.gif");
  ASSERT_EQ(animation.width, options.columns * tile);
  ASSERT_EQ(animation.height, options.rows * tile);
  ASSERT_EQ(animation.frames.size(), 4u);  // 0, 4, 8 and all 9 pixels
  EXPECT_EQ(told, 4);
  for (size_t frame = 0; frame < animation.frames.size(); ++frame) {
    const int64_t known = std::min<int64_t>(9, static_cast<int64_t>(frame) * options.downsample);
    for (int64_t y = 0; y < animation.height; ++y)
      for (int64_t x = 0; x < animation.width; ++x) {
        const int64_t image = y / tile * options.columns + x / tile, row = y % tile / scale, col = x % tile / scale;
        const int64_t expected = row * side + col < known ? tokens[image][row][col].item<int64_t>() * 17 : 0;
        EXPECT_EQ(animation.frames[frame][static_cast<size_t>((y * animation.width + x) * 3)], expected)
            << "frame " << frame << " at " << y << ' ' << x;
      }
  }
}

TEST(Animation, TwentyFramesASecondAreFiveHundredthsEach) {
  const TemporaryFolder folder;
  AnimationOptions options;
  options.rows = options.columns = 1;
  write_animation(folder / "out.gif", torch::ones({1, 28, 28}, torch::kInt64), greys, options);
  const auto animation = decode_gif(folder / "out.gif");
  EXPECT_EQ(animation.delays, std::vector<int>(158, 5));
  EXPECT_EQ(animation.width, 56);
}

TEST(Animation, PalettesWithoutBlackStillStartBlack) {
  const TemporaryFolder folder;
  AnimationOptions options;
  options.rows = options.columns = 1;
  options.scale = 1;
  const auto palette = torch::tensor({200, 10, 10, 10, 200, 10}, torch::kUInt8).view({2, 3});
  write_animation(folder / "out.gif", torch::tensor({{{1, 0}, {0, 1}}}), palette, options);
  const auto animation = decode_gif(folder / "out.gif");
  EXPECT_EQ(animation.frames.front(), std::vector<uint8_t>(12, 0));
  EXPECT_EQ(animation.frames.back(), (std::vector<uint8_t>{10, 200, 10, 200, 10, 10, 200, 10, 10, 10, 200, 10}));
}

// (V, 3) colours that are all different and none of them black.
torch::Tensor many_colours(int64_t size) {
  const auto k = torch::arange(size);
  return torch::stack({k % 256, (k / 256) % 256, torch::full({size}, 99)}, /*dim=*/1).to(torch::kUInt8).contiguous();
}

// The last frame against the colours of the tokens: the largest difference of a channel.
int64_t largest_error(const std::filesystem::path& path, const torch::Tensor& tokens, const torch::Tensor& palette) {
  const auto animation = decode_gif(path);
  const auto expected = tiled(pixels_of(tokens, palette).unsqueeze(0)).contiguous();
  const auto& frame = animation.frames.back();
  const auto shown = torch::tensor(frame, torch::kUInt8).view(expected.sizes());
  EXPECT_EQ(animation.frames.front(), std::vector<uint8_t>(frame.size(), 0));
  return (shown.to(torch::kInt64) - expected.to(torch::kInt64)).abs().max().item<int64_t>();
}

class AnimationOfColours : public ::testing::TestWithParam<int64_t> {};

TEST_P(AnimationOfColours, IsExactWhereAFrameHasFewNewColours) {
  const TemporaryFolder folder;
  AnimationOptions options;
  options.rows = 1;
  options.columns = 3;
  options.scale = 1;
  torch::manual_seed(2);
  const auto tokens = torch::randint(0, GetParam(), {3, 32, 32}, torch::kInt64), palette = many_colours(GetParam());
  for (const int64_t downsample : {1, 5, 85}) {
    options.downsample = downsample;
    write_animation(folder / "out.gif", tokens, palette, options);
    EXPECT_EQ(largest_error(folder / "out.gif", tokens, palette), 0) << "every " << downsample;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, AnimationOfColours, ::testing::Values(255, 257, 512, 32768));

TEST(Animation, FramesOfTooManyNewColoursHaveTheNearestOf256) {
  const TemporaryFolder folder;
  AnimationOptions options;
  options.rows = options.columns = 1;
  options.scale = 1;
  options.downsample = 1024;
  torch::manual_seed(2);
  const auto tokens = torch::randint(0, 512, {1, 32, 32}, torch::kInt64), palette = many_colours(512);
  write_animation(folder / "out.gif", tokens, palette, options);
  const int64_t error = largest_error(folder / "out.gif", tokens, palette);
  EXPECT_GT(error, 0);
  EXPECT_LE(error, 3);
  // Many tokens, but few colours.
  const auto equal = palette.remainder(16) * 15;
  write_animation(folder / "out.gif", tokens, equal, options);
  EXPECT_EQ(largest_error(folder / "out.gif", tokens, equal), 0);
}

TEST(Animation, ImpossibleOptionsAreRefused) {
  const auto refused = [](auto change) {
    AnimationOptions options;
    change(options);
    try {
      check(options, 28);
    } catch (const UsageError&) {
      return true;
    }
    return false;
  };
  EXPECT_FALSE(refused([](AnimationOptions&) {}));
  EXPECT_TRUE(refused([](AnimationOptions& options) { options.rows = 0; }));
  EXPECT_TRUE(refused([](AnimationOptions& options) { options.columns = -1; }));
  EXPECT_TRUE(refused([](AnimationOptions& options) { options.downsample = 0; }));
  EXPECT_TRUE(refused([](AnimationOptions& options) { options.scale = 0; }));
  EXPECT_TRUE(refused([](AnimationOptions& options) { options.scale = std::nan(""); }));
  EXPECT_TRUE(refused([](AnimationOptions& options) { options.scale = 1000; }));
  EXPECT_TRUE(refused([](AnimationOptions& options) { options.columns = 2000; }));
  EXPECT_TRUE(refused([](AnimationOptions& options) { options.rows = options.columns = 600, options.scale = 1; }));
  EXPECT_FALSE(refused([](AnimationOptions& options) { options.rows = options.columns = 500, options.scale = 1; }));
}

}  // namespace
}  // namespace igpt::sampling
