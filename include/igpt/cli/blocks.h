#pragma once

#include <cstdint>
#include <string>

#include "igpt/cli/progress.h"
#include "igpt/formats/image.h"

namespace igpt::cli {

/// How a terminal can show a pixel.
enum class Shades : uint8_t {
  ascii,        ///< no colours: characters that are more or less dense
  colours_256,  ///< xterm's colour cube
  true_colour,  ///< 24 bits
};

/// What this process's terminal can do, by NO_COLOR, COLORTERM, TERM and the locale, which must be UTF-8 for colours.
Shades shades_of(const ProgressOutput& terminal);

/// The picture as lines of text, two rows of pixels in each: half blocks in colour, or one character for both.
std::string in_blocks(const formats::Image& image, Shades shades);

/// A figure of square images of `side` pixels, made to fit into `columns` pixels: the images become smaller, down to
/// half of their size, and then the last ones are left out. With `completions` a row is context, samples and original:
/// the original stays as long as three images fit, and a single one is a sample.
formats::Image fitted(const formats::Image& figure, int64_t side, int64_t columns, bool completions);

}  // namespace igpt::cli
