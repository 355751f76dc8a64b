#include "igpt/cli/blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>

namespace igpt::cli {
namespace {

using ::testing::HasSubstr;

TEST(Blocks, TwoRowsOfPixelsShareALine) {
  const formats::Image image{3, 2, 3, {255, 0, 0, 0, 0, 255, 0, 255, 0, 9, 8, 7, 1, 2, 3, 1, 2, 3}};
  EXPECT_EQ(in_blocks(image, Shades::true_colour),
            "\x1b[38;2;255;0;0;48;2;0;255;0m▀\x1b[38;2;0;0;255;48;2;9;8;7m▀\x1b[0m\n"
            "\x1b[38;2;1;2;3m▀▀\x1b[0m\n");  // equal neighbours need no new code
  EXPECT_THAT(in_blocks(image, Shades::colours_256), HasSubstr("\x1b[38;5;196;48;5;46m▀"));
}

TEST(Blocks, WithoutColoursBrighterPixelsAreDenser) {
  formats::Image image{1, 256, 1, {}};
  for (int grey = 0; grey < 256; ++grey) image.pixels.push_back(static_cast<uint8_t>(grey));
  std::string line = in_blocks(image, Shades::ascii);
  EXPECT_EQ(line.front(), ' ');
  EXPECT_EQ(line[255], '@');
  EXPECT_EQ(line.size(), 257U);
  line.erase(std::unique(line.begin(), line.end()), line.end());
  EXPECT_EQ(line, " .:-=+*#%@\n");
}

TEST(Blocks, GreysKeepTheirOrderIn256Colours) {
  for (int grey = 1; grey < 256; ++grey) {
    const auto byte = static_cast<uint8_t>(grey);
    const std::string text = in_blocks({1, 1, 1, {byte}}, Shades::colours_256);
    const int index = std::stoi(text.substr(text.rfind("38;5;") + 5));
    const int shown = index == 16 ? 0 : index == 231 ? 255 : 8 + 10 * (index - 232);
    EXPECT_LE(std::abs(shown - grey), 9) << text;
  }
}

// A row of images of 4 x 4 pixels, each of one grey.
formats::Image images(int count) {
  formats::Image figure{4, 4 * count, 1, {}};
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 4 * count; ++x) figure.pixels.push_back(static_cast<uint8_t>(10 * (x / 4)));
  return figure;
}

TEST(Fitted, ImagesBecomeSmallerAndThenFewer) {
  const auto figure = images(3);
  EXPECT_EQ(fitted(figure, 4, 80, true).pixels, figure.pixels);
  const auto smaller = fitted(figure, 4, 9, true);
  EXPECT_EQ(smaller.width, 9);
  EXPECT_EQ(smaller.height, 3);
  EXPECT_EQ(smaller.pixels[8], 20);
  for (const bool completions : {false, true})
    EXPECT_EQ(fitted(figure, 4, 5, completions).pixels, (std::vector<uint8_t>{0, 0, 10, 10, 0, 0, 10, 10}));
  EXPECT_EQ(fitted(figure, 4, 3, /*completions=*/false).pixels[0], 0);
  EXPECT_EQ(fitted(figure, 4, 3, /*completions=*/true).pixels[0], 10);
  const auto seven = fitted(images(7), 4, 7, /*completions=*/true);  // three of them
  EXPECT_EQ(seven.width, 6);
  EXPECT_EQ(seven.pixels[2], 10);
  EXPECT_EQ(seven.pixels[4], 60);
  for (int64_t columns = 1; columns < 14; ++columns) EXPECT_LE(fitted(figure, 4, columns, true).width, columns);
}

class ShadesTest : public ::testing::Test {
 protected:
  ~ShadesTest() override { set("xterm-256color", "", "C.UTF-8"); }
  static void set(const char* term, const char* colorterm, const char* locale) {
    setenv("TERM", term, 1);
    setenv("COLORTERM", colorterm, 1);
    setenv("LC_ALL", locale, 1);
  }
};

TEST_F(ShadesTest, FollowTheTerminal) {
  ProgressOutput terminal;
  terminal.terminal = terminal.colour = true;
  set("xterm-256color", "truecolor", "C.UTF-8");
  EXPECT_EQ(shades_of(terminal), Shades::true_colour);
  set("xterm-256color", "", "de_DE.utf8");
  EXPECT_EQ(shades_of(terminal), Shades::colours_256);
  set("xterm-direct", "", "C.UTF-8");
  EXPECT_EQ(shades_of(terminal), Shades::true_colour);
  set("vt100", "", "C.UTF-8");
  EXPECT_EQ(shades_of(terminal), Shades::ascii);
  set("xterm-256color", "truecolor", "C");  // has no half blocks
  EXPECT_EQ(shades_of(terminal), Shades::ascii);
  set("xterm-256color", "truecolor", "C.UTF-8");
  terminal.colour = false;  // NO_COLOR
  EXPECT_EQ(shades_of(terminal), Shades::ascii);
}

}  // namespace
}  // namespace igpt::cli
