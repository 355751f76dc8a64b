#pragma once

#include <string>

#include "igpt/formats/image.h"

namespace igpt::formats {

/// The image as a PNG file, 8 bits a channel. Throws igpt::InputError when `pixels` does not have the size that the
/// image says or has more than 2^30 bytes.
std::string encode_png(const Image& image);

}  // namespace igpt::formats
