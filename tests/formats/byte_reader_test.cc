#include "igpt/formats/byte_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/hostile.h"

namespace igpt::formats {
namespace {

using ::testing::HasSubstr;

ByteReader reader_of(std::string_view text) {
  return {std::as_bytes(std::span(text)), "x.bin:"};
}

TEST(ByteReader, NumbersAreLittleEndianUnlessTheNameSaysOtherwise) {
  auto reader = reader_of({"\x01\x02\x03\x04\x05\x06\x07\x08\x01\x02\x03\x04\xff\xff\xff\xff", 16});
  EXPECT_EQ(reader.u64(), 0x0807060504030201u);
  EXPECT_EQ(reader.u32_be(), 0x01020304u);
  EXPECT_EQ(reader.i32(), -1);
  EXPECT_TRUE(reader.at_end());
}

TEST(ByteReader, ReadsDoubles) {
  EXPECT_EQ(reader_of({"\x3f\xf8\0\0\0\0\0\0", 8}).f64_be(), 1.5);
}

TEST(ByteReader, NothingBeyondTheEndIsRead) {
  for (size_t size = 0; size < 8; ++size) {
    const std::string text(size, 'x');
    EXPECT_THAT(refusal([&] { reader_of(text).u64(); }),
                HasSubstr("x.bin: is cut off at byte " + std::to_string(size)));
  }
  auto reader = reader_of("abc");
  EXPECT_THROW(reader.take(UINT64_MAX), InputError);
  EXPECT_THROW(reader.take(4), InputError);
  EXPECT_THROW(reader.seek(4), InputError);
  EXPECT_EQ(reader.take_text(3), "abc");
  EXPECT_TRUE(reader.take(0).empty());
}

TEST(ByteReader, LinesAreBounded) {
  auto reader = reader_of("one\n\nthree");
  EXPECT_EQ(reader.line(3), "one");
  EXPECT_EQ(reader.line(3), "");
  EXPECT_THROW(reader.line(3), InputError);
  EXPECT_THROW(reader.line(100), InputError);
}

TEST(Printable, StaysOnOneShortLine) {
  EXPECT_EQ(printable("a\nb\x1b[31m\xff"), "a\\x0ab\\x1b[31m\\xff");
  EXPECT_LT(printable(std::string(10000, '\n')).size(), 100u);
}

}  // namespace
}  // namespace igpt::formats
