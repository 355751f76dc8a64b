#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "igpt/data/palette.h"

namespace igpt::data {

struct PaletteFile {
  Palette palette;
  std::string values;  ///< what the file holds, for a note: "bytes", "floats from 0 to 1", "floats from -1 to 1"
};

/// Colours (V, C) from 0 to 1 or, if they are `is_signed`, from -1 to 1, which become the palette's centroids. `name`
/// starts the message of an igpt::InputError on a value out of range or two equal colours.
Palette palette_of_floats(const std::string& name, const std::vector<double>& values, int64_t channels, bool is_signed);

/// Whether a file is to be read as an .npy file, by its name or its first bytes.
bool is_npy(const std::filesystem::path& path);

/// Reads colours (V, C) from an .npy file: bytes in any integer type, floats in [0, 1] as the original's
/// compute_centroids.py writes them, or floats in [-1, 1], the `clusters` of OpenAI and Hugging Face (byte / 127.5 -
/// 1). Floats become the palette's centroids. Throws igpt::InputError when V is not 2 to kLargestVocab, C neither 1 nor
/// 3, a value is out of range or not a number, or two colours are equal.
PaletteFile read_palette_file(const std::filesystem::path& path);

}  // namespace igpt::data
