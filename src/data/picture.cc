#include "igpt/data/picture.h"

#include <string>
#include <utility>

#include "igpt/formats/image_file.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/resize.h"

namespace igpt::data {

std::span<uint8_t> to_grey(std::span<uint8_t> pixels) {
  for (size_t i = 0; i < pixels.size() / 3; ++i) {
    const uint32_t red = pixels[3 * i], green = pixels[3 * i + 1], blue = pixels[3 * i + 2];
    pixels[i] = static_cast<uint8_t>((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16);
  }
  return pixels.first(pixels.size() / 3);
}

std::vector<uint16_t> read_picture(const std::filesystem::path& path, const Palette& palette, int64_t side) {
  constexpr uint64_t kLargestFile = uint64_t{256} << 20;
  const std::string name = path.string();
  auto square =
      formats::square_of(formats::decode_image(formats::read_file(path, kLargestFile), name), side);  // (s, s, C)
  std::span<uint8_t> pixels = square.pixels;
  std::vector<uint8_t> rgb;
  if (palette.channels == 1 && square.channels == 3) pixels = to_grey(pixels);
  if (palette.channels == 3 && square.channels == 1) {
    for (const uint8_t grey : pixels) rgb.insert(rgb.end(), 3, grey);
    pixels = rgb;
  }
  std::vector<uint16_t> tokens(static_cast<size_t>(side * side));
  encode(palette, pixels, tokens);
  return tokens;
}

}  // namespace igpt::data
