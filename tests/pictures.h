#pragma once

#include <gif_lib.h>
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#include <stb/stb_image.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <vector>

#include "igpt/formats/image.h"

namespace igpt::testing {

/// A PNG as another library reads it.
inline formats::Image decode_png(const std::filesystem::path& path) {
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> bytes(
      stbi_load(path.c_str(), &width, &height, &channels, 0), &stbi_image_free);
  if (!bytes) throw std::runtime_error(path.string() + ": is no PNG");
  return {height, width, channels, {bytes.get(), bytes.get() + int64_t{width} * height * channels}};
}

struct Animation {
  int64_t width = 0, height = 0;
  std::vector<std::vector<uint8_t>> frames;  ///< (height, width, 3): what the viewer sees
  std::vector<int> delays;                   ///< 1/100 s
};

/// A GIF as giflib reads it, each frame laid over the one before.
inline Animation decode_gif(const std::filesystem::path& path) {
  const auto close = [](GifFileType* file) { DGifCloseFile(file, nullptr); };
  const std::unique_ptr<GifFileType, decltype(close)> file(DGifOpenFileName(path.c_str(), nullptr), close);
  if (!file || DGifSlurp(file.get()) != GIF_OK) throw std::runtime_error(path.string() + ": is no GIF");
  Animation animation{file->SWidth, file->SHeight, {}, {}};
  std::vector<uint8_t> canvas(static_cast<size_t>(animation.width * animation.height * 3));
  for (int index = 0; index < file->ImageCount; ++index) {
    const SavedImage& image = file->SavedImages[index];
    GraphicsControlBlock control{};
    control.TransparentColor = NO_TRANSPARENT_COLOR;
    DGifSavedExtensionToGCB(file.get(), index, &control);
    const ColorMapObject* colours = image.ImageDesc.ColorMap ? image.ImageDesc.ColorMap : file->SColorMap;
    for (int64_t y = 0; y < image.ImageDesc.Height; ++y)
      for (int64_t x = 0; x < image.ImageDesc.Width; ++x) {
        const int entry = image.RasterBits[y * image.ImageDesc.Width + x];
        if (entry == control.TransparentColor) continue;
        const GifColorType& colour = colours->Colors[entry];
        uint8_t* pixel =
            &canvas[static_cast<size_t>(((y + image.ImageDesc.Top) * animation.width + x + image.ImageDesc.Left) * 3)];
        pixel[0] = colour.Red, pixel[1] = colour.Green, pixel[2] = colour.Blue;
      }
    animation.frames.push_back(canvas);
    animation.delays.push_back(control.DelayTime);
  }
  return animation;
}

}  // namespace igpt::testing
