#include "igpt/formats/gif.h"

#include <gif_lib.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "igpt/error.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::ElementsAre;

struct Decoded {
  int width = 0, height = 0;
  bool loops = false;
  std::vector<std::vector<GifColorType>> frames;  // as a viewer shows them
  std::vector<int> delays;                        // 1/100 s
  std::vector<int64_t> areas;                     // pixels that each frame carries
};

// Plays a GIF with giflib as a viewer does: draws each frame over the last one, except for transparent pixels.
Decoded play(const std::filesystem::path& path) {
  int error = 0;
  GifFileType* gif = DGifOpenFileName(path.c_str(), &error);
  if (!gif || DGifSlurp(gif) != GIF_OK) throw std::runtime_error("giflib cannot read " + path.string());
  Decoded decoded{gif->SWidth, gif->SHeight, false, {}, {}, {}};
  std::vector<GifColorType> canvas(static_cast<size_t>(gif->SWidth * gif->SHeight));
  for (int k = 0; k < gif->ImageCount; ++k) {
    const SavedImage& image = gif->SavedImages[k];
    GraphicsControlBlock control = {};
    EXPECT_EQ(DGifSavedExtensionToGCB(gif, k, &control), GIF_OK);
    for (int i = 0; i < image.ExtensionBlockCount; ++i) {
      const ExtensionBlock& block = image.ExtensionBlocks[i];
      if (block.Function == APPLICATION_EXT_FUNC_CODE && block.ByteCount == 11)
        decoded.loops = std::string(reinterpret_cast<const char*>(block.Bytes), 11) == "NETSCAPE2.0";
    }
    const GifImageDesc& box = image.ImageDesc;
    const ColorMapObject* colours = box.ColorMap ? box.ColorMap : gif->SColorMap;
    for (int y = 0; y < box.Height; ++y)
      for (int x = 0; x < box.Width; ++x) {
        const int index = image.RasterBits[y * box.Width + x];
        if (index == control.TransparentColor) continue;
        if (index >= colours->ColorCount) throw std::runtime_error("index outside the palette");
        canvas[static_cast<size_t>((box.Top + y) * gif->SWidth + box.Left + x)] = colours->Colors[index];
      }
    decoded.frames.push_back(canvas);
    decoded.delays.push_back(control.DelayTime);
    decoded.areas.push_back(int64_t{box.Width} * box.Height);
  }
  DGifCloseFile(gif, &error);
  return decoded;
}

std::vector<uint8_t> ramp(int64_t colours, int64_t channels) {
  std::vector<uint8_t> palette;
  for (int64_t k = 0; k < colours * channels; ++k) palette.push_back(static_cast<uint8_t>(k * 37 + k / 256));
  return palette;
}

struct PaletteCase {
  int64_t colours, channels;
};

class GifPalette : public ::testing::TestWithParam<PaletteCase> {};

TEST_P(GifPalette, EveryPixelOfEveryFrameComesBack) {
  TemporaryFolder folder;
  const auto [colours, channels] = GetParam();
  const int64_t width = 37, height = 21;
  const auto palette = ramp(colours, channels);
  GifWriter gif({.width = width, .height = height, .palette = palette, .channels = channels});
  std::vector<std::vector<uint8_t>> frames;
  uint32_t state = 3;
  std::vector<uint8_t> frame(static_cast<size_t>(width * height));
  for (int k = 0; k < 12; ++k) {
    for (int i = 0; i < (k == 4 ? 0 : k == 7 ? 5000 : 9); ++i) {
      state = state * 1664525 + 1013904223;
      frame[(state >> 8) % frame.size()] = static_cast<uint8_t>((state >> 4) % static_cast<uint32_t>(colours));
    }
    frames.push_back(frame);
    gif.add_frame(frame);
  }
  gif.publish(folder / "out.gif");
  const Decoded decoded = play(folder / "out.gif");
  EXPECT_EQ(decoded.width, width);
  EXPECT_EQ(decoded.height, height);
  EXPECT_TRUE(decoded.loops);
  ASSERT_EQ(decoded.frames.size(), frames.size());
  for (size_t k = 0; k < frames.size(); ++k)
    for (size_t i = 0; i < frame.size(); ++i) {
      const uint8_t* colour = palette.data() + frames[k][i] * channels;
      const GifColorType& shown = decoded.frames[k][i];
      const std::vector<uint8_t> expected = {colour[0], colour[channels == 3 ? 1 : 0], colour[channels == 3 ? 2 : 0]};
      ASSERT_EQ((std::vector<uint8_t>{shown.Red, shown.Green, shown.Blue}), expected)
          << "frame " << k << ", pixel " << i;
    }
}

TEST(GifWriter, FramesOfALargePaletteHaveTablesOfTheirOwn) {
  TemporaryFolder folder;
  const int64_t width = 40, height = 30;
  std::vector<uint8_t> palette;
  for (int k = 0; k < 1000; ++k)
    palette.insert(palette.end(), {static_cast<uint8_t>(k), static_cast<uint8_t>(k / 256), 9});
  GifWriter gif({.width = width, .height = height, .palette = palette, .channels = 3});
  std::vector<std::vector<uint16_t>> frames = {std::vector<uint16_t>(width * height, 999)};
  gif.add_frame(frames[0]);
  for (size_t k = 0; k < 5; ++k) {
    auto frame = frames.back();
    for (size_t i = 0; i < 255; ++i)
      frame[(k * 211 + 3 * i) % frame.size()] = static_cast<uint16_t>((k * 255 + i) % 1000);
    frames.push_back(frame);
    gif.add_frame(frame);
  }
  auto frame = frames.back();
  for (size_t i = 0; i < 256; ++i) frame[i] = static_cast<uint16_t>(frame[i] == 500 + i ? 100 + i : 500 + i);
  EXPECT_THROW(gif.add_frame(frame), InputError);
  EXPECT_THROW(gif.add_frame(std::vector<uint16_t>(width * height, 1000)), InputError);
  gif.add_frame(frames.back());  // nothing is new
  frames.push_back(frames.back());
  gif.publish(folder / "out.gif");
  const Decoded decoded = play(folder / "out.gif");
  ASSERT_EQ(decoded.frames.size(), frames.size());
  for (size_t k = 0; k < frames.size(); ++k)
    for (size_t i = 0; i < frames[k].size(); ++i) {
      const GifColorType& shown = decoded.frames[k][i];
      ASSERT_EQ(shown.Red + 256 * shown.Green, frames[k][i]) << "frame " << k << ", pixel " << i;
    }
}

INSTANTIATE_TEST_SUITE_P(Sizes, GifPalette,
                         ::testing::Values(PaletteCase{1, 1}, PaletteCase{2, 1}, PaletteCase{3, 3}, PaletteCase{15, 1},
                                           PaletteCase{16, 1}, PaletteCase{16, 3}, PaletteCase{255, 1},
                                           PaletteCase{256, 1}, PaletteCase{256, 3}));

TEST(Gif, FramesCarryOnlyWhatChanged) {
  TemporaryFolder folder;
  GifWriter gif({.width = 100, .height = 50, .palette = ramp(16, 1)});
  std::vector<uint8_t> frame(5000, 3);
  gif.add_frame(frame);
  frame[10 * 100 + 20] = 5;
  frame[14 * 100 + 22] = 6;
  gif.add_frame(frame);
  gif.add_frame(frame);
  frame[4999] = 1;
  gif.add_frame(frame);
  gif.publish(folder / "out.gif");
  EXPECT_THAT(play(folder / "out.gif").areas, ElementsAre(5000, 5 * 3, 1, 1));
}

// 25 images growing side by side change everywhere at once; unchanged pixels must still cost next to nothing.
TEST(Gif, ScatteredChangesStaySmall) {
  TemporaryFolder folder;
  GifWriter gif({.width = 280, .height = 280, .palette = ramp(16, 1)});
  std::vector<uint8_t> frame(280 * 280);
  uint32_t state = 5;
  for (uint8_t& pixel : frame) pixel = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 28);
  gif.add_frame(frame);
  gif.publish(folder / "one.gif");
  GifWriter both({.width = 280, .height = 280, .palette = ramp(16, 1)});
  both.add_frame(frame);
  for (size_t i = 0; i < 25; ++i) frame[(i / 5 * 56 * 280) + (i % 5) * 56] ^= 1;
  both.add_frame(frame);
  both.publish(folder / "both.gif");
  EXPECT_LT(std::filesystem::file_size(folder / "both.gif") - std::filesystem::file_size(folder / "one.gif"), 1000u);
}

TEST(Gif, DelaysKeepTheRate) {
  for (const double fps : {20.0, 24.0, 30.0, 7.0, 49.9, 50.0, 0.4}) {
    TemporaryFolder folder;
    GifWriter gif({.width = 1, .height = 1, .palette = ramp(2, 1), .fps = fps});
    for (int k = 0; k < 200; ++k) gif.add_frame(std::vector<uint8_t>{static_cast<uint8_t>(k % 2)});
    gif.publish(folder / "out.gif");
    const auto delays = play(folder / "out.gif").delays;
    EXPECT_GE(*std::ranges::min_element(delays), 2) << "1/100 s, which browsers keep, at " << fps;
    double start = 0;
    for (size_t k = 0; k < delays.size(); start += delays[k++])
      ASSERT_NEAR(start, 100.0 * static_cast<double>(k) / fps, 0.5 + 1e-9) << "frame " << k << " at " << fps;
    EXPECT_NEAR(start, 100.0 * 200 / fps, 0.5 + 1e-9);
  }
}

TEST(Gif, RefusesImpossibleOptionsAndFrames) {
  const auto with = [](auto change) {
    GifOptions options{.width = 2, .height = 2, .palette = ramp(4, 1)};
    change(options);
    GifWriter{options};
  };
  EXPECT_NO_THROW(with([](GifOptions&) {}));
  for (const int64_t side : {0L, -1L, 65536L, INT64_MAX}) {
    EXPECT_THROW(with([&](GifOptions& o) { o.width = side; }), InputError);
    EXPECT_THROW(with([&](GifOptions& o) { o.height = side; }), InputError);
  }
  EXPECT_THROW(with([](GifOptions& o) { o.palette.clear(); }), InputError);
  EXPECT_THROW(with([](GifOptions& o) { o.palette.resize(65537); }), InputError);
  EXPECT_THROW(with([](GifOptions& o) { o.channels = 3; }), InputError);
  EXPECT_THROW(with([](GifOptions& o) { o.channels = 0; }), InputError);
  for (const double fps : {0.0, -1.0, 50.1, 60.0, 1e-300, std::numeric_limits<double>::quiet_NaN(),
                           std::numeric_limits<double>::infinity()})
    EXPECT_THROW(with([&](GifOptions& o) { o.fps = fps; }), InputError) << fps;

  TemporaryFolder folder;
  GifWriter gif({.width = 2, .height = 2, .palette = ramp(4, 1)});
  EXPECT_THROW(gif.publish(folder / "out.gif"), Error);
  EXPECT_THROW(gif.add_frame(std::vector<uint8_t>{0, 1, 2}), InputError);
  EXPECT_THROW(gif.add_frame(std::vector<uint8_t>{0, 1, 2, 4}), InputError);
  EXPECT_TRUE(folder.names().empty());
}

TEST(Gif, FailedWritingKeepsTheOldFile) {
  TemporaryFolder folder;
  GifWriter gif({.width = 1, .height = 1, .palette = ramp(2, 1)});
  gif.add_frame(std::vector<uint8_t>{1});
  EXPECT_THROW(gif.publish(folder / "missing" / "out.gif"), Error);
  EXPECT_THROW(gif.publish(folder / "out.gif"), Error);
  EXPECT_TRUE(folder.names().empty());
}

}  // namespace
}  // namespace igpt::formats
