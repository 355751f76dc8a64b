#include "igpt/formats/image_file.h"

#include <png.h>
#include <turbojpeg.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/limits.h"

namespace igpt::formats {
namespace {

constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";
constexpr std::string_view kJpegStart = "\xff\xd8\xff";
constexpr int64_t kDeflateExpansion = 1032;  // of deflate, at most: zlib.net/zlib_tech.html
constexpr int64_t kJpegPixelsPerByte = 512;  // a block of 64 pixels takes a bit at least

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw InputError(name + ": " + what);
}

[[noreturn]] void fail_damaged(const std::string& name, const char* kind, std::string_view reason) {
  fail(name, std::string("is damaged (") + kind + ": " + printable(reason) + "); copy or download it again");
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

const uint8_t* unsigned_bytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

std::string in_words(int64_t width, int64_t height) {
  return std::to_string(width) + " x " + std::to_string(height);
}

void check_size(const ImageHeader& header, const std::string& name, const ImageLimits& limits) {
  const auto [is_png, width, height] = header;
  if (width < 1 || height < 1) fail(name, "is a picture of " + in_words(width, height) + " pixels; give another file");
  if (width > limits.side || height > limits.side || width * height > limits.pixels)
    fail(name, "is a picture of " + in_words(width, height) + " pixels, at most " + std::to_string(limits.side) +
                   " a side and " + std::to_string(limits.pixels) + " in all are read; make it smaller");
}

Image make_image(const std::string& name, int64_t width, int64_t height, int64_t channels) try {
  return {height, width, channels, std::vector<uint8_t>(static_cast<size_t>(width * height * channels))};
} catch (const std::bad_alloc&) {
  fail(name, "its " + in_words(width, height) + " pixels do not fit into memory" + more_memory());
}

// Walks through the chunks up to IEND (PNG specification, third edition, section 5), so that a file that was cut short
// is known before it is decoded.
ImageHeader png_header(std::string_view bytes, const std::string& name, const ImageLimits& limits) {
  ByteReader reader(bytes_of(bytes), name + ":");
  reader.take(kPngSignature.size());
  if (reader.remaining() < 25 || bytes.substr(12, 4) != "IHDR") fail_damaged(name, "PNG", "no header");
  reader.take(8);
  ImageHeader header{.is_png = true, .width = reader.u32_be(), .height = reader.u32_be()};
  check_size(header, name, limits);
  const int64_t depth = reader.u8(), colour_type = reader.u8();
  int64_t compressed = 0;
  reader.seek(kPngSignature.size());
  for (std::string_view type; type != "IEND";) {
    if (reader.remaining() < 12) fail_damaged(name, "PNG", "cut short");
    const uint32_t length = reader.u32_be();
    type = reader.take_text(4);
    if (length > reader.remaining() || reader.remaining() - length < 4) fail_damaged(name, "PNG", "cut short");
    reader.take(uint64_t{length} + 4);
    if (type == "IDAT") compressed += length;
  }
  const int64_t samples = colour_type == 2 ? 3 : colour_type == 4 ? 2 : colour_type == 6 ? 4 : 1;
  if (header.width * header.height * samples * depth / 8 > compressed * kDeflateExpansion)
    fail_damaged(name, "PNG", "too short for its " + in_words(header.width, header.height) + " pixels");
  return header;
}

// What is transparent is laid over white, in the memory of the picture. (h, w, C + 1) -> (h, w, C)
void flatten_alpha(Image& image) {
  const auto with_alpha = static_cast<size_t>(image.channels);
  const uint8_t* from = image.pixels.data();
  uint8_t* to = image.pixels.data();
  for (; from != image.pixels.data() + image.pixels.size(); from += with_alpha) {
    const uint32_t alpha = from[with_alpha - 1];
    for (size_t c = 0; c + 1 < with_alpha; ++c)
      *to++ = static_cast<uint8_t>((from[c] * alpha + 255 * (255 - alpha) + 127) / 255);
  }
  --image.channels;
  image.pixels.resize(static_cast<size_t>(image.width * image.height * image.channels));
}

Image decode_png(std::string_view bytes, const std::string& name, const ImageHeader& header) {
  // libpng's simplified interface: errors come back as text, without a jump over C++.
  const std::unique_ptr<png_image, void (*)(png_image*)> png(new png_image{}, [](png_image* p) {
    png_image_free(p);
    delete p;
  });
  png->version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(png.get(), bytes.data(), bytes.size())) fail_damaged(name, "PNG", png->message);
  png->flags |= PNG_IMAGE_FLAG_16BIT_sRGB;  // as all programs write them; libpng would take them for linear light
  const bool has_alpha = png->format & PNG_FORMAT_FLAG_ALPHA;
  png->format &= PNG_FORMAT_FLAG_COLOR | PNG_FORMAT_FLAG_ALPHA;  // 8 bits a channel, no colour map
  Image image = make_image(name, header.width, header.height, PNG_IMAGE_SAMPLE_CHANNELS(png->format));
  if (!png_image_finish_read(png.get(), /*background=*/nullptr, image.pixels.data(), /*row_stride=*/0,
                             /*colormap=*/nullptr))
    fail_damaged(name, "PNG", png->message);
  if (has_alpha) flatten_alpha(image);
  return image;
}

// A decoder of libjpeg-turbo. One for each picture: making one costs microseconds.
class JpegDecoder {
 public:
  JpegDecoder(std::string_view bytes, const std::string& name)
      : bytes_(bytes), name_(name), handle_(tjInitDecompress(), tjDestroy) {
    if (!handle_) throw Error(name_ + ": libjpeg-turbo does not start" + more_memory());
  }

  ImageHeader header(const ImageLimits& limits) {
    int width = 0, height = 0, subsampling = 0;
    if (tjDecompressHeader3(handle_.get(), unsigned_bytes(bytes_), bytes_.size(), &width, &height, &subsampling,
                            &colours_) != 0)
      refuse();
    const ImageHeader header{.is_png = false, .width = width, .height = height};
    check_size(header, name_, limits);
    if (header.width * header.height > static_cast<int64_t>(bytes_.size()) * kJpegPixelsPerByte)
      fail_damaged(name_, "JPEG", "too short for its " + in_words(width, height) + " pixels");
    if (colours_ == TJCS_CMYK || colours_ == TJCS_YCCK)
      fail(name_, "is a JPEG in CMYK, the colours of print; convert it to RGB");
    return header;
  }

  // After header().
  Image decode(const ImageHeader& header) {
    const bool grey = colours_ == TJCS_GRAY;
    Image image = make_image(name_, header.width, header.height, grey ? 1 : 3);
    constexpr int flags = TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS;
    if (tjDecompress2(handle_.get(), unsigned_bytes(bytes_), bytes_.size(), image.pixels.data(),
                      static_cast<int>(header.width), /*pitch=*/0, static_cast<int>(header.height),
                      grey ? TJPF_GRAY : TJPF_RGB, flags) != 0)
      refuse();
    return image;
  }

 private:
  [[noreturn]] void refuse() const { fail_damaged(name_, "JPEG", tjGetErrorStr2(handle_.get())); }

  std::string_view bytes_;
  const std::string& name_;
  std::unique_ptr<void, int (*)(void*)> handle_;
  int colours_ = 0;
};

// The tag Orientation in a block of EXIF (Exif 2.32, section 4.6.4), which is a TIFF file; 1 where there is none.
int tiff_orientation(std::string_view tiff, const std::string& name) {
  constexpr uint16_t kOrientation = 0x0112, kShort = 3;
  ByteReader reader(bytes_of(tiff), name + ":");
  const bool swapped = reader.take_text(2) == "MM";
  const auto u16 = [&] { return swapped ? __builtin_bswap16(reader.u16()) : reader.u16(); };
  const auto u32 = [&] { return swapped ? __builtin_bswap32(reader.u32()) : reader.u32(); };
  u16();  // 42
  reader.seek(u32());
  for (int entries = u16(); entries > 0; --entries) {
    const uint16_t tag = u16(), type = u16();
    u32();  // how many values
    const uint16_t value = u16();
    u16();  // the upper half of a long value
    if (tag == kOrientation && type == kShort && value >= 1 && value <= 8) return value;
  }
  return 1;
}

// The orientation that the segments before the first scan give. What is damaged there is left alone, as viewers do.
int jpeg_orientation(std::string_view bytes, const std::string& name) try {
  constexpr std::string_view kExif{"Exif\0\0", 6};
  constexpr uint8_t kApp1 = 0xe1, kStartOfScan = 0xda;
  ByteReader reader(bytes_of(bytes), name + ":");
  reader.take(2);
  while (reader.u8() == 0xff) {
    uint8_t marker = reader.u8();
    while (marker == 0xff) marker = reader.u8();  // fill bytes
    if (marker == kStartOfScan) break;
    const uint16_t length = __builtin_bswap16(reader.u16());
    if (length < 2) break;
    const std::string_view segment = reader.take_text(length - 2u);
    if (marker == kApp1 && segment.starts_with(kExif)) return tiff_orientation(segment.substr(kExif.size()), name);
  }
  return 1;
} catch (const InputError&) {
  return 1;
}

// Orientations 5 to 8 swap rows and columns; then 2, 3, 7 and 8 mirror the columns, 3, 4, 6 and 7 the rows of the
// original.
Image turned_upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool transposed = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image upright{transposed ? image.width : image.height, transposed ? image.height : image.width, image.channels,
                std::vector<uint8_t>(image.pixels.size())};
  const auto channels = static_cast<size_t>(image.channels);
  uint8_t* to = upright.pixels.data();
  for (int64_t row = 0; row < upright.height; ++row)
    for (int64_t column = 0; column < upright.width; ++column, to += channels) {
      int64_t y = transposed ? column : row, x = transposed ? row : column;
      if (flip_x) x = image.width - 1 - x;
      if (flip_y) y = image.height - 1 - y;
      std::memcpy(to, image.pixels.data() + static_cast<size_t>(y * image.width + x) * channels, channels);
    }
  return upright;
}

[[noreturn]] void fail_unknown(const std::string& name) {
  fail(name, "is neither a PNG nor a JPEG; give another file");
}

}  // namespace

ImageHeader read_image_header(std::string_view bytes, const std::string& name, const ImageLimits& limits) {
  if (bytes.starts_with(kPngSignature)) return png_header(bytes, name, limits);
  if (bytes.starts_with(kJpegStart)) return JpegDecoder(bytes, name).header(limits);
  fail_unknown(name);
}

Image decode_image(std::string_view bytes, const std::string& name, const ImageLimits& limits) {
  if (bytes.starts_with(kPngSignature)) return decode_png(bytes, name, png_header(bytes, name, limits));
  if (!bytes.starts_with(kJpegStart)) fail_unknown(name);
  JpegDecoder decoder(bytes, name);
  Image image = decoder.decode(decoder.header(limits));
  return turned_upright(std::move(image), jpeg_orientation(bytes, name));
}

}  // namespace igpt::formats
