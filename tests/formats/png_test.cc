#include "igpt/formats/png.h"

#include <gtest/gtest.h>

#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

#include "igpt/error.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

Image decode(const std::string& png) {
  int width = 0, height = 0, channels = 0;
  uint8_t* pixels = stbi_load_from_memory(reinterpret_cast<const uint8_t*>(png.data()), static_cast<int>(png.size()),
                                          &width, &height, &channels, /*desired_channels=*/0);
  Image image{height, width, channels, {}};
  if (pixels) image.pixels.assign(pixels, pixels + width * height * channels);
  stbi_image_free(pixels);
  return image;
}

TEST(Png, EveryPixelComesBack) {
  for (const int64_t channels : {1, 3})
    for (const auto& [height, width] : {std::pair<int64_t, int64_t>{1, 1}, {5, 7}, {300, 2}, {64, 500}}) {
      Image image{height, width, channels, {}};
      uint32_t state = 7;
      for (int64_t i = 0; i < height * width * channels; ++i)
        image.pixels.push_back(static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24));
      const Image decoded = decode(encode_png(image));
      EXPECT_EQ(decoded.height, height);
      EXPECT_EQ(decoded.width, width);
      EXPECT_EQ(decoded.channels, channels);
      EXPECT_EQ(decoded.pixels, image.pixels) << height << " x " << width << " x " << channels;
    }
}

TEST(Png, RefusesImpossibleImages) {
  EXPECT_THROW(encode_png({2, 2, 1, {0, 0, 0}}), InputError);
  EXPECT_THROW(encode_png({1, 1, 2, {0, 0}}), InputError);
  EXPECT_THROW(encode_png({0, 5, 1, {}}), InputError);
  EXPECT_THROW(encode_png({-1, -1, 1, {0}}), InputError);
  EXPECT_THROW(encode_png({INT64_MAX, INT64_MAX, 3, {0}}), InputError);
  EXPECT_THROW(encode_png({1 << 16, 1 << 16, 1, {0}}), InputError);
}

}  // namespace
}  // namespace igpt::formats
