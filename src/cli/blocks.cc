#include "igpt/cli/blocks.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <string_view>

#include "igpt/formats/resize.h"

namespace igpt::cli {
namespace {

using formats::Image;

struct Pixel {
  uint32_t red = 0, green = 0, blue = 0;
  bool operator==(const Pixel&) const = default;
};

Pixel pixel_of(const Image& image, int64_t y, int64_t x) {
  const uint8_t* first = image.pixels.data() + (y * image.width + x) * image.channels;
  return {first[0], first[image.channels / 2], first[image.channels - 1]};
}

uint32_t brightness(const Pixel& pixel) {
  return (299 * pixel.red + 587 * pixel.green + 114 * pixel.blue) / 1000;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  std::string text = value ? value : "";
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
    if (const std::string value = variable(name); !value.empty())
      return value.find("utf-8") != value.npos || value.find("utf8") != value.npos;
  return false;
}

// The nearest of the 6 x 6 x 6 colours from 16 on, or of the 24 greys from 232 on.
uint32_t of_256(const Pixel& pixel) {
  if (pixel.red == pixel.green && pixel.green == pixel.blue) {
    if (pixel.red < 4) return 16;
    if (pixel.red > 246) return 231;
    return 232 + std::min<uint32_t>(23, (pixel.red - 3) / 10);
  }
  const auto level = [](uint32_t value) { return value < 48 ? 0 : value < 115 ? 1 : (value - 35) / 40; };
  return 16 + 36 * level(pixel.red) + 6 * level(pixel.green) + level(pixel.blue);
}

// "38;2;R;G;B" for what is drawn, "48;..." for the ground.
std::string code_of(const Pixel& pixel, const char* kind, Shades shades) {
  if (shades == Shades::colours_256) return std::string(kind) + ";5;" + std::to_string(of_256(pixel));
  return std::string(kind) + ";2;" + std::to_string(pixel.red) + ";" + std::to_string(pixel.green) + ";" +
         std::to_string(pixel.blue);
}

std::string line_in_colour(const Image& image, int64_t y, Shades shades) {
  std::string line, last;
  for (int64_t x = 0; x < image.width; ++x) {
    std::string code = "\x1b[" + code_of(pixel_of(image, y, x), "38", shades);
    code += y + 1 < image.height ? ";" + code_of(pixel_of(image, y + 1, x), "48", shades) + "m" : "m";
    if (code != last) line += code;
    last = code;
    line += "▀";
  }
  return line + "\x1b[0m\n";
}

std::string line_in_ascii(const Image& image, int64_t y) {
  constexpr std::string_view kDensities = " .:-=+*#%@";
  std::string line;
  for (int64_t x = 0; x < image.width; ++x) {
    const uint32_t above = brightness(pixel_of(image, y, x));
    const uint32_t below = y + 1 < image.height ? brightness(pixel_of(image, y + 1, x)) : above;
    line += kDensities[(above + below) * kDensities.size() / 511];
  }
  return line + "\n";
}

// Column `column` of row `row` of a figure of images.
Image image_of(const Image& figure, int64_t side, int64_t row, int64_t column) {
  Image image{side, side, figure.channels, {}};
  for (int64_t y = 0; y < side; ++y) {
    const uint8_t* first = figure.pixels.data() + ((row * side + y) * figure.width + column * side) * figure.channels;
    image.pixels.insert(image.pixels.end(), first, first + side * figure.channels);
  }
  return image;
}

void place(const Image& image, Image& figure, int64_t top, int64_t left) {
  for (int64_t y = 0; y < image.height; ++y)
    std::copy_n(image.pixels.data() + y * image.width * image.channels, image.width * image.channels,
                figure.pixels.data() + ((top + y) * figure.width + left) * figure.channels);
}

}  // namespace

Shades shades_of(const ProgressOutput& terminal) {
  if (!terminal.colour || !locale_is_utf8()) return Shades::ascii;
  const std::string colours = variable("COLORTERM"), kind = variable("TERM");
  if (colours == "truecolor" || colours == "24bit" || kind.ends_with("-direct")) return Shades::true_colour;
  return kind.find("256color") != kind.npos ? Shades::colours_256 : Shades::ascii;
}

std::string in_blocks(const Image& image, Shades shades) {
  std::string text;
  for (int64_t y = 0; y < image.height; y += 2)
    text += shades == Shades::ascii ? line_in_ascii(image, y) : line_in_colour(image, y, shades);
  return text;
}

Image fitted(const Image& figure, int64_t side, int64_t columns, bool completions) {
  const int64_t all = figure.width / side, rows = figure.height / side;
  if (figure.width <= columns) return figure;
  const int64_t half = (side + 1) / 2;
  const int64_t small = std::clamp<int64_t>(columns / all, std::min(half, columns), side);
  const int64_t shown = std::clamp<int64_t>(columns / small, 1, all);
  Image result{rows * small, shown * small, figure.channels, {}};
  result.pixels.resize(static_cast<size_t>(result.height * result.width * result.channels));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < shown; ++column) {
      int64_t from = column;
      if (completions && shown == 1) from = std::min<int64_t>(1, all - 1);
      if (completions && shown > 2 && column + 1 == shown) from = all - 1;
      place(formats::square_of(image_of(figure, side, row, from), small), result, row * small, column * small);
    }
  return result;
}

}  // namespace igpt::cli
