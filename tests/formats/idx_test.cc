#include "igpt/formats/idx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "idx_header.h"
#include "igpt/error.h"

namespace igpt::formats {
namespace {

using igpt::testing::idx_header;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(Idx, ReadsImagesAndLabels) {
  const std::string images = idx_header({2, 3, 1}) + "abcdef";
  const IdxArray array = parse_idx(images, "x");
  EXPECT_THAT(array.shape, ElementsAre(2, 3, 1));
  EXPECT_THAT(array.values, ElementsAre('a', 'b', 'c', 'd', 'e', 'f'));
  const std::string labels("\0\0\x08\x01\0\0\x01\0", 8);
  EXPECT_THAT(parse_idx(labels + std::string(256, 'l'), "y").shape, ElementsAre(256));
}

TEST(Idx, RefusesEveryTruncationAndExcess) {
  const std::string file = idx_header({2, 3, 1}) + "abcdef";
  for (size_t size = 0; size < file.size(); ++size)
    EXPECT_THROW(parse_idx(file.substr(0, size), "x"), InputError) << "cut after " << size;
  EXPECT_THAT([&] { parse_idx(file + "g", "data/x"); },
              ThrowsMessage<InputError>(HasSubstr("data/x: holds 7 bytes of values where 2 x 3 x 1 need 6")));
}

TEST(Idx, RefusesLyingSizes) {
  const std::string huge("\0\0\x08\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 20);
  EXPECT_THAT([&] { parse_idx(huge, "x"); }, ThrowsMessage<InputError>(HasSubstr("impossibly large")));
  EXPECT_THROW(parse_idx(idx_header({0xffffffff}), "x"), InputError);
  EXPECT_THROW(parse_idx(idx_header({0xffffffff, 0, 0xffffffff, 0xffffffff}) + "x", "x"), InputError);
  EXPECT_EQ(parse_idx(idx_header({0, 28, 28}), "x").values.size(), 0u);
}

TEST(Idx, RefusesOtherTypesDimensionsAndFiles) {
  const std::string file = idx_header({1}) + "a";
  for (const auto& [position, value] : {std::pair{0, 1}, {1, 1}, {2, 0x09}, {2, 0x0d}, {3, 0}, {3, 5}, {3, 255}}) {
    std::string other = file;
    other[static_cast<size_t>(position)] = static_cast<char>(value);
    EXPECT_THROW(parse_idx(other, "x"), InputError) << "byte " << position << " = " << value;
  }
}

}  // namespace
}  // namespace igpt::formats
