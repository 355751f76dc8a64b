#include "igpt/formats/image_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "formats/hostile.h"
#include "picture_files.h"

namespace igpt::formats {
namespace {

using namespace std::string_literals;
using igpt::testing::as_jpeg;
using igpt::testing::as_png;
using igpt::testing::big_endian;
using igpt::testing::colourful;
using igpt::testing::png;
using igpt::testing::png_chunk;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

Image decode(const std::string& file) {
  return decode_image(file, "x");
}

std::string refused(const std::string& file, const ImageLimits& limits = {}) {
  const std::string message = refusal([&] { decode_image(file, "x.png", limits); });
  EXPECT_THAT(message, ::testing::StartsWith("x.png: "));
  return message;
}

TEST(DecodePng, GreyAndRgb) {
  for (const int64_t channels : {1, 3}) {
    const Image image = colourful(5, 7, channels), read = decode(as_png(image));
    EXPECT_EQ(read.height, 5);
    EXPECT_EQ(read.width, 7);
    EXPECT_EQ(read.channels, channels);
    EXPECT_EQ(read.pixels, image.pixels);
  }
}

TEST(DecodePng, FewBitsAreSpreadOverAByte) {
  EXPECT_THAT(decode(png(4, 1, 1, 0, "\0\x50"s)).pixels, ElementsAre(0, 255, 0, 255));
  EXPECT_THAT(decode(png(4, 1, 2, 0, "\0\x1b"s)).pixels, ElementsAre(0, 85, 170, 255));
  EXPECT_THAT(decode(png(2, 1, 4, 0, "\0\x3f"s)).pixels, ElementsAre(51, 255));
}

TEST(DecodePng, SixteenBitsLoseTheLowerEight) {
  const Image grey = decode(png(3, 1, 16, 0, "\0\x12\x12\x80\x80\xff\xff"s));
  EXPECT_THAT(grey.pixels, ElementsAre(0x12, 0x80, 0xff));
  const Image rgb = decode(png(1, 1, 16, 2, "\0\x01\x01\x7f\x7f\xc0\xc0"s));
  EXPECT_THAT(rgb.pixels, ElementsAre(0x01, 0x7f, 0xc0));
}

TEST(DecodePng, PalettesBecomeRgb) {
  const std::string palette = png_chunk("PLTE", "\x01\x02\x03\xf0\xe0\xd0"s);
  const Image image = decode(png(2, 2, 8, 3, "\0\0\1\0\1\0"s, palette));
  EXPECT_EQ(image.channels, 3);
  EXPECT_THAT(image.pixels, ElementsAre(1, 2, 3, 0xf0, 0xe0, 0xd0, 0xf0, 0xe0, 0xd0, 1, 2, 3));
  EXPECT_THAT(refused(png(2, 1, 8, 3, "\0\0\1"s)), HasSubstr("PLTE"));
}

TEST(DecodePng, TransparencyIsLaidOverWhite) {
  // Opaque, half and invisible.
  EXPECT_THAT(decode(png(3, 1, 8, 4, "\0\x64\xff\x64\x80\x64\0"s)).pixels, ElementsAre(100, 177, 255));
  const Image rgb = decode(png(2, 1, 8, 6, "\0\x0a\x14\x1e\xff\x0a\x14\x1e\0"s));
  EXPECT_EQ(rgb.channels, 3);
  EXPECT_THAT(rgb.pixels, ElementsAre(10, 20, 30, 255, 255, 255));
  const std::string palette = png_chunk("PLTE", "\x01\x02\x03\xf0\xe0\xd0"s) + png_chunk("tRNS", "\0"s);
  EXPECT_THAT(decode(png(2, 1, 8, 3, "\0\0\1"s, palette)).pixels, ElementsAre(255, 255, 255, 0xf0, 0xe0, 0xd0));
  EXPECT_THAT(decode(png(2, 1, 8, 0, "\0\x07\x08"s, png_chunk("tRNS", "\0\x07"s))).pixels, ElementsAre(255, 8));
}

TEST(DecodePng, InterlacedIsTheSame) {
  // The seven passes of Adam7 over 3 x 2 pixels: (0,0); none; none; (2,0); none; (1,0); row 1.
  const std::string rows = "\0\x0a\0\x1e\0\x14\0\x28\x32\x3c"s;
  EXPECT_THAT(decode(png(3, 2, 8, 0, rows, "", /*interlaced=*/true)).pixels, ElementsAre(10, 20, 30, 40, 50, 60));
}

TEST(DecodePng, EveryTruncationAndEveryWrongByteIsOneLine) {
  const std::string file = as_png(colourful(6, 6, 3));
  for (size_t size = 0; size < file.size(); ++size) refused(file.substr(0, size));
  for (size_t at = 0; at + 12 < file.size(); ++at) {  // IEND's sum decides nothing
    std::string changed = file;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    refused(changed);
  }
}

TEST(DecodePng, WrongSumsAreNamed) {
  std::string file = as_png(colourful(6, 6, 1));
  file[file.size() - 13] ^= 1;  // the last byte of IDAT's CRC
  EXPECT_THAT(refused(file), HasSubstr("CRC"));
}

TEST(DecodePng, SizesThatLieTakeNoMemory) {
  expect_modest(uint64_t{8} << 20, [] {
    EXPECT_THAT(refused(png(0, 0, 8, 0, "")), HasSubstr("0 x 0 pixels"));
    EXPECT_THAT(refused(png(60'000, 60'000, 8, 2, "\0\0\0\0"s)),
                HasSubstr("60000 x 60000 pixels, at most 30000 a side"));
    EXPECT_THAT(refused(png(0x7fffffff, 0x7fffffff, 16, 6, "\0"s)), HasSubstr("at most 30000 a side"));
    EXPECT_THAT(refused(png(20'000, 20'000, 8, 2, "\0"s)), HasSubstr("67108864 in all"));
    EXPECT_THAT(refused(png(8000, 8000, 8, 2, "\0\0\0\0"s)), HasSubstr("too short for its 8000 x 8000 pixels"));
  });
  EXPECT_THAT(refused(as_png(colourful(4, 5, 1)), {.side = 4}), HasSubstr("at most 4 a side"));
}

TEST(DecodeJpeg, GreyAndRgb) {
  for (const int64_t channels : {1, 3})
    for (const int flags : {0, TJFLAG_PROGRESSIVE}) {
      const Image image = colourful(24, 40, channels), read = decode(as_jpeg(image, flags));
      EXPECT_EQ(read.height, 24);
      EXPECT_EQ(read.width, 40);
      ASSERT_EQ(read.channels, channels);
      ASSERT_EQ(read.pixels.size(), image.pixels.size());
      int largest = 0;
      for (size_t i = 0; i < image.pixels.size(); ++i)
        largest = std::max(largest, std::abs(image.pixels[i] - read.pixels[i]));
      EXPECT_LE(largest, 6);
    }
}

// A JPEG with a block of EXIF, in either byte order, that says how it is to be turned.
std::string turned(const Image& image, int orientation, bool big) {
  const auto number = [&](uint32_t value, int bytes) {
    std::string text = big_endian(value).substr(static_cast<size_t>(4 - bytes));
    return big ? text : std::string(text.rbegin(), text.rend());
  };
  const std::string tiff = (big ? "MM" : "II") + number(42, 2) + number(8, 4) + number(2, 2) +  //
                           number(0x010f, 2) + number(2, 2) + number(1, 4) + "a\0\0\0"s +       // the maker
                           number(0x0112, 2) + number(3, 2) + number(1, 4) +
                           number(static_cast<uint32_t>(orientation), 2) + "\0\0"s + number(0, 4);
  const std::string exif = "Exif\0\0"s + tiff;
  const std::string file = as_jpeg(image);
  return file.substr(0, 2) + "\xff\xe1" + big_endian(static_cast<uint32_t>(exif.size() + 2)).substr(2) + exif +
         file.substr(2);
}

// The picture is black but for its upper left corner, which each orientation has elsewhere.
TEST(DecodeJpeg, ExifTurnsItUpright) {
  Image image{16, 32, 1, std::vector<uint8_t>(16 * 32)};
  for (int64_t y = 0; y < 8; ++y)
    for (int64_t x = 0; x < 8; ++x) image.pixels[static_cast<size_t>(y * 32 + x)] = 255;
  struct Corner {
    bool right, bottom;
  };
  // Exif 2.32: which side of the picture the stored row 0 and column 0 are.
  const Corner corners[] = {{false, false}, {true, false}, {true, true}, {false, true},
                            {false, false}, {true, false}, {true, true}, {false, true}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const Image read = decode(turned(image, orientation, orientation % 2 == 0));
    EXPECT_EQ(read.width, orientation < 5 ? 32 : 16) << orientation;
    EXPECT_EQ(read.height, orientation < 5 ? 16 : 32) << orientation;
    const Corner corner = corners[orientation - 1];
    const int64_t x = corner.right ? read.width - 4 : 3, y = corner.bottom ? read.height - 4 : 3;
    EXPECT_GT(read.pixels[static_cast<size_t>(y * read.width + x)], 240) << orientation;
    EXPECT_LT(read.pixels[static_cast<size_t>((read.height - 1 - y) * read.width + read.width - 1 - x)], 15);
  }
  EXPECT_EQ(decode(turned(image, 9, true)).width, 32);  // none of them
}

TEST(DecodeJpeg, EveryTruncationIsOneLine) {
  for (const int flags : {0, TJFLAG_PROGRESSIVE}) {
    const std::string file = as_jpeg(colourful(16, 16, 3), flags);
    for (size_t size = 0; size + 2 < file.size(); ++size) refused(file.substr(0, size));
  }
}

TEST(DecodeJpeg, CmykIsRefused) {
  EXPECT_THAT(refused(as_jpeg(colourful(8, 8, 3), 0, /*cmyk=*/true)), HasSubstr("CMYK"));
}

TEST(DecodeJpeg, SizesThatLieTakeNoMemory) {
  const std::string good = as_jpeg(colourful(16, 16, 3));
  const size_t frame = good.find("\xff\xc0"s);
  ASSERT_NE(frame, std::string::npos);
  const auto with_size = [&](uint32_t height, uint32_t width) {
    std::string file = good;
    return file.replace(frame + 5, 4, big_endian(height).substr(2) + big_endian(width).substr(2));
  };
  expect_modest(uint64_t{8} << 20, [&] {
    refused(with_size(0, 0));
    EXPECT_THAT(refused(with_size(60'000, 60'000)), HasSubstr("60000 x 60000 pixels, at most 30000 a side"));
    EXPECT_THAT(refused(with_size(8000, 8000)), HasSubstr("too short for its 8000 x 8000 pixels"));
  });
}

TEST(DecodeImage, OtherFilesAreRefused) {
  for (const std::string& file : {""s, "GIF89a"s, "\xff\xd8"s, "BM"s, std::string(1000, '\0'), "\x89PNG\r\n\x1a\n"s})
    EXPECT_THAT(refused(file), ::testing::AnyOf(HasSubstr("neither a PNG nor a JPEG"), HasSubstr("no header")));
}

}  // namespace
}  // namespace igpt::formats
