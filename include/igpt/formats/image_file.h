#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "igpt/formats/image.h"

namespace igpt::formats {

/// How large a picture may be. Checked against its header, before memory is taken for its pixels.
struct ImageLimits {
  int64_t side = 30'000;              ///< pixels
  int64_t pixels = int64_t{1} << 26;  ///< width times height
};

/// What the header of a picture says.
struct ImageHeader {
  bool is_png = false;  ///< or a JPEG
  int64_t width = 0, height = 0;
};

/// Reads and checks the header of a PNG or JPEG file, told apart by their first bytes. Throws igpt::InputError for
/// anything else, for a picture outside the limits, and for a file that is too short for the pixels that it promises.
/// `name` starts messages.
ImageHeader read_image_header(std::string_view bytes, const std::string& name, const ImageLimits& limits = {});

/// The pixels of a PNG or JPEG file: 8 bits a channel, grey where the file's colours are, otherwise RGB.
///
/// PNG: all colour types and depths (of 16 bits the upper 8), palettes, interlaced; what is transparent is laid over
/// white, as a page shows it. JPEG: grey and RGB, turned upright by its EXIF orientation; CMYK is refused.
///
/// Throws igpt::InputError as read_image_header does, and for damaged files: what the decoder has to guess at is not
/// read. Takes the memory of the pixels, for an interlaced picture or a progressive JPEG up to five times as much.
Image decode_image(std::string_view bytes, const std::string& name, const ImageLimits& limits = {});

}  // namespace igpt::formats
