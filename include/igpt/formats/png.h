#pragma once

#include <filesystem>
#include <string>

#include "igpt/formats/image.h"

namespace igpt::formats {

/// The image as a PNG file, 8 bits a channel. Throws igpt::InputError when `pixels` does not have the size that the
/// image says or it is larger than 2^30 pixels bytes.
std::string encode_png(const Image& image);

/// The same, written atomically. Throws igpt::Error when it cannot be written.
void write_png(const std::filesystem::path& path, const Image& image);

}  // namespace igpt::formats
