#include "igpt/data/palette_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "igpt/error.h"
#include "igpt/formats/npy.h"
#include "temporary_folder.h"

namespace igpt::data {
namespace {

using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

class PaletteFileTest : public ::testing::Test {
 protected:
  template <class T>
  PaletteFile read(const std::vector<int64_t>& shape, const std::vector<T>& values) const {
    formats::write_npy(folder_ / "p.npy", shape, std::span<const T>(values));
    return read_palette_file(folder_ / "p.npy");
  }
  PaletteFile read_floats(const std::vector<int64_t>& shape, const std::vector<float>& values) const {
    write_bytes(folder_ / "p.npy", formats::npy_header(formats::DType::float32, shape) +
                                       std::string(reinterpret_cast<const char*>(values.data()), 4 * values.size()));
    return read_palette_file(folder_ / "p.npy");
  }

  TemporaryFolder folder_;
};

TEST_F(PaletteFileTest, BytesOfAnyIntegerTypeAreColours) {
  const std::vector<uint8_t> bytes = {0, 1, 2, 255, 254, 253};
  const auto of_bytes = read<uint8_t>({2, 3}, bytes);
  EXPECT_EQ(of_bytes.palette, (Palette{3, bytes}));
  EXPECT_EQ(of_bytes.values, "bytes");
  EXPECT_EQ(read<int64_t>({2, 3}, {0, 1, 2, 255, 254, 253}).palette, of_bytes.palette);
  EXPECT_EQ(read<uint8_t>({6, 1}, bytes).palette, (Palette{1, bytes}));
}

TEST_F(PaletteFileTest, FloatsFrom0To1AreTheOriginalsCentroids) {
  const auto file = read_floats({2, 1}, {0.6619206f, 0.0006868664f});
  EXPECT_EQ(file.palette, Palette::of_centroids({0.6619206f, 0.0006868664f}, 1));
  EXPECT_EQ(file.values, "floats from 0 to 1");
  EXPECT_EQ(read<double>({2, 1}, {0, 1}).values, "floats from 0 to 1");
}

TEST_F(PaletteFileTest, FloatsFromMinus1To1AreOpenAIsClusters) {
  const auto file = read_floats({2, 3}, {-1, 0, 1, -0.5f, 0.25f, 0.9921569f});
  EXPECT_EQ(file.values, "floats from -1 to 1");
  EXPECT_THAT(file.palette.centroids, ElementsAre(0, 0.5f, 1, 0.25f, 0.625f, FloatEq(0.99607843f)));
  EXPECT_THAT(file.palette.colours, ElementsAre(0, 128, 255, 64, 159, 254));  // rint(127.5 (c + 1))
}

TEST_F(PaletteFileTest, WhatIsNoPaletteIsRefusedOnOneLine) {
  const auto expect = [](const auto& work, const std::string& words) {
    EXPECT_THAT(work, ThrowsMessage<InputError>(AllOf(HasSubstr("p.npy: "), HasSubstr(words), Not(HasSubstr("\n")))));
  };
  expect([&] { read_floats({2, 1}, {0, NAN}); }, "holds nan in colour 1");
  expect([&] { read_floats({2, 1}, {0, INFINITY}); }, "holds inf in colour 1");
  expect([&] { read_floats({2, 3}, {0, 0, 0, 0, 0, 1.01f}); }, "from 0 to 1 or from -1 to 1");
  expect([&] { read_floats({2, 3}, {0, 0, 0, 0, 0, 255}); }, "holds 255.0");
  expect([&] { read_floats({2, 1}, {-1.01f, 0}); }, "in colour 0");
  expect([&] { read_floats({3, 1}, {0, 0.5f, 0}); }, "its colours 0 and 2 are equal");
  expect([&] { read<uint8_t>({2, 3}, {1, 2, 3, 1, 2, 3}); }, "its colours 0 and 1 are equal");
  expect([&] { read<int64_t>({2, 1}, {0, 256}); }, "holds 256 at (1, 0)");
  expect([&] { read<int64_t>({2, 1}, {0, -1}); }, "holds -1");
  expect([&] { read<uint8_t>({1, 3}, {1, 2, 3}); }, "has 1 colours, a palette has 2 to 32768");
  expect([&] { read<uint8_t>({0, 3}, {}); }, "has 0 colours");
  expect([&] { read<uint8_t>({32769, 1}, std::vector<uint8_t>(32769)); }, "has 32769 colours");
  expect([&] { read<uint8_t>({2, 2}, {1, 2, 3, 4}); }, "has the shape 2 x 2, a palette is V x 1 (grey) or V x 3 (RGB)");
  expect([&] { read<uint8_t>({4}, {1, 2, 3, 4}); }, "has the shape 4, ");
  expect([&] { read<uint8_t>({2, 1, 3}, {1, 2, 3, 4, 5, 6}); }, "2 x 1 x 3");
  write_bytes(folder_ / "p.npy", "no npy");
  expect([&] { read_palette_file(folder_ / "p.npy"); }, "is not an .npy file");
  EXPECT_THROW(read_palette_file(folder_ / "missing.npy"), InputError);
}

TEST_F(PaletteFileTest, IsKnownByItsNameOrItsBytes) {
  EXPECT_TRUE(is_npy(folder_ / "missing.npy"));
  EXPECT_FALSE(is_npy(folder_ / "missing.ckpt"));
  EXPECT_FALSE(is_npy(folder_.path()));
  formats::write_npy(folder_ / "palette", {2, 1}, std::vector<uint8_t>{0, 1});
  EXPECT_TRUE(is_npy(folder_ / "palette"));
  write_bytes(folder_ / "x.ckpt", "PK");
  EXPECT_FALSE(is_npy(folder_ / "x.ckpt"));
}

}  // namespace
}  // namespace igpt::data
