#include "igpt/formats/png.h"

#include <zlib.h>

#include <cstdlib>
#include <exception>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/checked.h"

namespace {

// zlib makes smaller files in less time than stb's own deflate. The caller frees the result with free().
[[maybe_unused]] unsigned char* zlib_compress(unsigned char* data, int size, int* compressed_size, int quality) {
  uLongf capacity = compressBound(static_cast<uLong>(size));
  auto* compressed = static_cast<unsigned char*>(std::malloc(capacity));
  if (!compressed || compress2(compressed, &capacity, data, static_cast<uLong>(size), quality) != Z_OK) {
    std::free(compressed);
    return nullptr;
  }
  *compressed_size = static_cast<int>(capacity);
  return compressed;
}

}  // namespace

#define STBIW_ZLIB_COMPRESS zlib_compress
#define STB_IMAGE_WRITE_STATIC
#ifndef __clang_analyzer__  // it rightly reports that stb leaks the buffer above when memory runs out
#define STB_IMAGE_WRITE_IMPLEMENTATION
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace igpt::formats {
namespace {

constexpr int64_t kMaximumBytes = int64_t{1} << 30;  // stb counts bytes in an int

// Called from C: no exception may pass through stb.
void append(void* context, void* data, int size) {
  auto& [png, failure] = *static_cast<std::pair<std::string, std::exception_ptr>*>(context);
  try {
    png.append(static_cast<const char*>(data), static_cast<size_t>(size));
  } catch (...) {
    failure = std::current_exception();
  }
}

}  // namespace

std::string encode_png(const Image& image) {
  if (image.channels != 1 && image.channels != 3) throw InputError("a PNG has 1 or 3 channels");
  const auto row = image.width > 0 ? checked_multiply(image.width, image.channels) : std::nullopt;
  const auto bytes = row && image.height > 0 ? checked_multiply(*row, image.height) : std::nullopt;
  if (!bytes || *bytes > kMaximumBytes)
    throw InputError("an image of " + std::to_string(image.width) + " x " + std::to_string(image.height) +
                     " pixels cannot be a PNG; choose a smaller --scale or fewer images");
  if (static_cast<size_t>(*bytes) != image.pixels.size())
    throw InputError("an image of " + std::to_string(image.width) + " x " + std::to_string(image.height) +
                     " does not have " + std::to_string(image.pixels.size()) + " values");
  std::pair<std::string, std::exception_ptr> output;
  const int written =
      stbi_write_png_to_func(append, &output, static_cast<int>(image.width), static_cast<int>(image.height),
                             static_cast<int>(image.channels), image.pixels.data(), static_cast<int>(*row));
  if (output.second) std::rethrow_exception(output.second);
  if (!written) throw Error("not enough memory to encode a PNG; choose a smaller --scale or fewer images");
  return std::move(output.first);
}

}  // namespace igpt::formats
