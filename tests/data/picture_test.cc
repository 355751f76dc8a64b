#include "igpt/data/picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "igpt/error.h"
#include "igpt/formats/resize.h"
#include "picture_files.h"
#include "temporary_folder.h"

namespace igpt::data {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using testing::write_bytes;

Palette black_red_white() {
  return {3, {0, 0, 0, 255, 0, 0, 255, 255, 255}, {}};
}

TEST(ReadPicture, TakesTheSquareInTheMiddleAndItsNearestColours) {
  const testing::TemporaryFolder folder;
  formats::Image image{4, 8, 3, std::vector<uint8_t>(4 * 8 * 3, 0)};  // black, red, red, white; each two wide
  for (size_t y = 0; y < 4; ++y)
    for (size_t x = 2; x < 8; ++x)
      for (size_t c = 0; c < 3; ++c) image.pixels[(y * 8 + x) * 3 + c] = c == 0 || x >= 6 ? 250 : 5;
  write_bytes(folder / "a.png", testing::as_png(image));
  EXPECT_THAT(read_picture(folder / "a.png", black_red_white(), 4), Each(1));
  EXPECT_THAT(read_picture(folder / "a.png", black_red_white(), 2), Each(1));
  write_bytes(folder / "a.jpg", testing::as_jpeg(image));
  EXPECT_THAT(read_picture(folder / "a.jpg", black_red_white(), 2), Each(1));
}

TEST(ReadPicture, ColoursBecomeGreysForAGreyModelAndGreysColours) {
  const testing::TemporaryFolder folder;
  std::array<uint8_t, 6> pixels{255, 0, 0, 0, 255, 0};
  const auto greys = to_grey(pixels);
  ASSERT_EQ(greys.size(), 2U);
  EXPECT_EQ(greys[0], 76);  // ITU-R BT.601
  EXPECT_EQ(greys[1], 150);
  const formats::Image red{1, 1, 3, {255, 0, 0}}, white{1, 1, 1, {255}};
  write_bytes(folder / "red.png", testing::as_png(red));
  write_bytes(folder / "white.png", testing::as_png(white));
  EXPECT_THAT(read_picture(folder / "red.png", Palette::grey(16), 3), Each(76 / 17));
  EXPECT_THAT(read_picture(folder / "white.png", black_red_white(), 3), Each(2));
}

TEST(ReadPicture, WhatIsNoPictureIsRefused) {
  const testing::TemporaryFolder folder;
  const auto refusal = [&](const char* name) -> std::string {
    try {
      read_picture(folder / name, Palette::grey(16), 28);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  write_bytes(folder / "text.png", "hello\n");
  write_bytes(folder / "huge.png", testing::png(60000, 60000, 8, 2, std::string(60, '\0')));
  EXPECT_THAT(refusal("text.png"), HasSubstr("text.png: is neither"));
  EXPECT_THAT(refusal("huge.png"), HasSubstr("is a picture of 60000 x 60000 pixels, at most 30000 a side"));
  EXPECT_THAT(refusal("none.png"), HasSubstr("none.png: no such file"));
}

}  // namespace
}  // namespace igpt::data
