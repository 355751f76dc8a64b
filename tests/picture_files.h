#pragma once

#include <turbojpeg.h>
#include <zlib.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "compressed.h"
#include "igpt/formats/image.h"

namespace igpt::testing {

inline std::string big_endian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

inline std::string png_chunk(const std::string& type, const std::string& content) {
  const std::string body = type + content;
  const auto crc = crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return big_endian(static_cast<uint32_t>(content.size())) + body + big_endian(static_cast<uint32_t>(crc));
}

/// A PNG file whose parts are the caller's: `rows` are its filtered rows before deflate; `chunks` come before them.
inline std::string png(uint32_t width, uint32_t height, int depth, int colour_type, std::string_view rows,
                       const std::string& chunks = "", bool interlaced = false) {
  const std::string header = big_endian(width) + big_endian(height) + static_cast<char>(depth) +
                             static_cast<char>(colour_type) + std::string(2, '\0') + static_cast<char>(interlaced);
  return "\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header) + chunks + png_chunk("IDAT", deflated(rows, MAX_WBITS, 6)) +
         png_chunk("IEND", "");
}

/// The image as a PNG or JPEG file.
inline std::string as_png(const formats::Image& image) {
  std::string rows;
  const auto row = static_cast<size_t>(image.width * image.channels);
  for (size_t y = 0; y < static_cast<size_t>(image.height); ++y)
    rows += '\0' + std::string(reinterpret_cast<const char*>(image.pixels.data()) + y * row, row);
  return png(static_cast<uint32_t>(image.width), static_cast<uint32_t>(image.height), 8, image.channels == 1 ? 0 : 2,
             rows);
}

inline std::string as_jpeg(const formats::Image& image, int flags = 0, bool cmyk = false) {
  tjhandle encoder = tjInitCompress();
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  std::vector<uint8_t> pixels = image.pixels;
  if (cmyk) pixels.resize(static_cast<size_t>(image.width * image.height * 4));
  const bool grey = image.channels == 1 && !cmyk;
  if (tjCompress2(encoder, pixels.data(), static_cast<int>(image.width), /*pitch=*/0, static_cast<int>(image.height),
                  cmyk ? TJPF_CMYK : (grey ? TJPF_GRAY : TJPF_RGB), &bytes, &size, grey ? TJSAMP_GRAY : TJSAMP_444,
                  /*quality=*/100, flags) != 0)
    throw std::runtime_error(tjGetErrorStr2(encoder));
  const std::string file(reinterpret_cast<const char*>(bytes), size);
  tjFree(bytes);
  tjDestroy(encoder);
  return file;
}

/// A picture whose pixels differ from each other.
inline formats::Image colourful(int64_t height, int64_t width, int64_t channels) {
  formats::Image image{height, width, channels, {}};
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < channels; ++c)
        image.pixels.push_back(static_cast<uint8_t>((40 * c + 5 * y + 3 * x) % 256));
  return image;
}

/// One entry of a tar file (POSIX.1-1988, ustar); `type` '0' is a file.
inline std::string tar_entry(const std::string& name, std::string_view content, char type = '0',
                             const std::string& size = "") {
  char octal[24];
  std::string header(512, '\0');
  const auto put = [&](size_t at, std::string_view text) { header.replace(at, text.size(), text); };
  put(0, name);
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  std::snprintf(octal, sizeof octal, "%011zo", content.size());
  put(124, size.empty() ? octal : size);
  put(136, "00000000000");
  put(148, "        ");
  header[156] = type;
  put(257, "ustar");
  put(263, "00");
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  std::snprintf(octal, sizeof octal, "%06o", sum);
  header.replace(148, 7, std::string_view(octal, 7));
  return header + std::string(content) + std::string((512 - content.size() % 512) % 512, '\0');
}

/// The end of a tar file.
inline std::string tar_end() {
  return std::string(1024, '\0');
}

}  // namespace igpt::testing
