#include "igpt/formats/image_file.h"

#include "fuzz.h"
#include "igpt/formats/resize.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr igpt::formats::ImageLimits limits{.side = 4096, .pixels = int64_t{1} << 20};
  igpt::fuzz::succeeds_or_refuses([&] {
    const auto image = igpt::formats::decode_image(igpt::fuzz::text_of(data, size), "x.png", limits);
    const auto values = static_cast<size_t>(image.width * image.height * image.channels);
    if (image.pixels.size() != values || values == 0 || image.width * image.height > limits.pixels) std::abort();
    if (igpt::formats::square_of(image, 28).pixels.size() != static_cast<size_t>(28 * 28 * image.channels))
      std::abort();
  });
  return 0;
}
