#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "igpt/data/palette.h"

namespace igpt::data {

/// (n, 3) RGB pixels -> (n) greys, in the same memory: the luma of ITU-R BT.601 in fixed point, as Pillow computes it.
std::span<uint8_t> to_grey(std::span<uint8_t> pixels);

/// A PNG or JPEG file as (side, side) tokens, as prepare_data makes them of pictures: the middle of it
/// (formats::square_of), in greys where the palette is grey, each pixel as its nearest colour. Throws igpt::InputError
/// for a file that is missing, too large, no picture or damaged.
std::vector<uint16_t> read_picture(const std::filesystem::path& path, const Palette& palette, int64_t side);

}  // namespace igpt::data
