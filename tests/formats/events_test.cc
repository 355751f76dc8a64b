#include "igpt/formats/events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <bit>
#include <cstring>

#include "igpt/error.h"
#include "igpt/formats/png.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class T>
T load(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

// CRC-32C bit by bit, unlike the table under test.
uint32_t slow_crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

uint32_t masked(std::string_view bytes) {
  const uint32_t crc = slow_crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

// The contents of the TFRecord frames; throws when one is not whole and right.
std::vector<std::string> records(const std::string& file) {
  std::vector<std::string> list;
  for (size_t at = 0; at < file.size();) {
    const auto length = load<uint64_t>(file.substr(at, 8));
    if (file.size() - at < 16 + length) throw std::runtime_error("torn record");
    if (load<uint32_t>(file.substr(at + 8, 4)) != masked(file.substr(at, 8))) throw std::runtime_error("length CRC");
    list.push_back(file.substr(at + 12, length));
    if (load<uint32_t>(file.substr(at + 12 + length, 4)) != masked(list.back())) throw std::runtime_error("CRC");
    at += 16 + length;
  }
  return list;
}

struct Field {
  uint64_t number = 0, integer = 0;
  std::string bytes;  // of fields that are not integers
};

std::vector<Field> fields(std::string_view message) {
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(message.at(0));
      message.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  };
  std::vector<Field> list;
  while (!message.empty()) {
    const uint64_t key = varint();
    Field field{key >> 3, 0, ""};
    const uint64_t type = key & 7;
    if (type == 0) field.integer = varint();
    const size_t size = type == 0 ? 0 : type == 1 ? 8 : type == 5 ? 4 : varint();
    field.bytes = message.substr(0, size);
    message.remove_prefix(size);
    list.push_back(field);
  }
  return list;
}

TEST(Crc32c, OfTheStandard) {  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
}

TEST(Events, ScalarsAndImagesAreTensorflowEvents) {
  TemporaryFolder folder;
  double now = 1'600'000'000.5;
  EventWriter events(folder.path(), [&] { return now; });
  EXPECT_THAT(events.path().filename().string(), ::testing::StartsWith("events.out.tfevents.1600000000."));
  now += 1;
  events.scalar("val_loss", 0.75, 300);
  const Image image{2, 3, 1, {0, 17, 34, 51, 68, 255}};
  events.image("samples", image, 25'000);
  events.flush();

  const auto list = records(read_bytes(events.path()));
  ASSERT_EQ(list.size(), 3u);
  const auto first = fields(list[0]);
  EXPECT_EQ(load<double>(first[0].bytes), 1'600'000'000.5);
  EXPECT_EQ(first[1].number, 3u);
  EXPECT_EQ(first[1].bytes, "brain.Event:2");

  const auto scalar = fields(list[1]);
  ASSERT_EQ(scalar.size(), 3u);
  EXPECT_EQ(load<double>(scalar[0].bytes), 1'600'000'001.5);
  EXPECT_EQ(scalar[1].integer, 300u);
  EXPECT_EQ(scalar[2].number, 5u);
  const auto value = fields(fields(scalar[2].bytes).at(0).bytes);
  EXPECT_EQ(value[0].bytes, "val_loss");
  EXPECT_EQ(value[1].number, 2u);
  EXPECT_EQ(load<float>(value[1].bytes), 0.75f);

  const auto picture = fields(fields(fields(list[2])[2].bytes).at(0).bytes);
  EXPECT_EQ(fields(list[2])[1].integer, 25'000u);
  EXPECT_EQ(picture[0].bytes, "samples");
  EXPECT_EQ(picture[1].number, 4u);
  const auto content = fields(picture[1].bytes);
  EXPECT_EQ(content[0].integer, 2u);
  EXPECT_EQ(content[1].integer, 3u);
  EXPECT_EQ(content[2].integer, 1u);
  EXPECT_EQ(content[3].bytes, encode_png(image));
}

TEST(Events, TwoWritersOfOneSecondGetTwoFiles) {
  TemporaryFolder folder;
  EventWriter one(folder.path(), [] { return 5.0; }), two(folder.path(), [] { return 5.0; });
  EXPECT_NE(one.path(), two.path());
  EXPECT_THROW(EventWriter(folder / "missing"), Error);
}

TEST(Events, AreOnTheirWayToTheDiskAtOnce) {
  TemporaryFolder folder;
  EventWriter events(folder.path());
  events.scalar("loss", 1, 1);
  EXPECT_EQ(records(read_bytes(events.path())).size(), 2u);
}

TEST(Events, FullDiskLeavesNoTornRecord) {
  TemporaryFolder folder;
  EventWriter events(folder.path());
  events.scalar("loss", 1, 1);
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit tight = before;
  tight.rlim_cur = std::filesystem::file_size(events.path()) + 10;
  setrlimit(RLIMIT_FSIZE, &tight);
  EXPECT_THROW(events.scalar("loss", 2, 2), Error);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  events.scalar("loss", 3, 3);
  EXPECT_EQ(records(read_bytes(events.path())).size(), 3u);
}

}  // namespace
}  // namespace igpt::formats
