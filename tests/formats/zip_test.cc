#include "igpt/formats/zip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <optional>

#include "compressed.h"
#include "formats/hostile.h"
#include "igpt/formats/byte_reader.h"
#include "memory_file.h"

namespace igpt::formats {
namespace {

using namespace std::string_literals;
using igpt::testing::deflated;
using igpt::testing::memory_file;
using ::testing::HasSubstr;

constexpr uint64_t inflate_limit = 1 << 20;

uint32_t crc_of(const std::string& text) {
  return static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size())));
}

// One copy of an entry's header.
struct Header {
  std::string name;
  uint16_t flags = 0, method = 0;
  uint32_t crc = 0, compressed_size = 0, size = 0;
  std::string extra = "";

  std::string common() const {
    return little_endian(flags) + little_endian(method) + std::string(4, '\0') + little_endian(crc) +
           little_endian(compressed_size) + little_endian(size) + little_endian(static_cast<uint16_t>(name.size())) +
           little_endian(static_cast<uint16_t>(extra.size()));
  }
};

struct Entry {
  Header local, central;
  std::string data, behind = "";
  std::optional<uint32_t> offset = {};
};

Entry stored(const std::string& name, const std::string& content) {
  const auto size = static_cast<uint32_t>(content.size());
  const Header header{name, 0, 0, crc_of(content), size, size};
  return {header, header, content};
}

Entry compressed(const std::string& name, const std::string& content) {
  const std::string data = deflated(content, -MAX_WBITS, Z_BEST_COMPRESSION);
  const Header header{
      name, 0, 8, crc_of(content), static_cast<uint32_t>(data.size()), static_cast<uint32_t>(content.size())};
  return {header, header, data};
}

// What the end record says where it does not tell the truth.
struct End {
  std::optional<uint16_t> entries = {};
  std::optional<uint32_t> size = {}, offset = {};
  uint16_t disk = 0;
  std::string comment = "", before = "", behind = "";
};

std::string archive_of(const std::vector<Entry>& entries, const End& end = {}) {
  std::string file, directory;
  for (const auto& entry : entries) {
    const auto offset = entry.offset.value_or(static_cast<uint32_t>(file.size()));
    file += "PK\3\4\x14\0"s + entry.local.common() + entry.local.name + entry.local.extra + entry.data + entry.behind;
    directory += "PK\1\2\x14\0\x14\0"s + entry.central.common() + std::string(10, '\0') + little_endian(offset) +
                 entry.central.name + entry.central.extra;
  }
  const auto count = end.entries.value_or(static_cast<uint16_t>(entries.size()));
  const auto offset = end.offset.value_or(static_cast<uint32_t>(file.size()));
  const auto size = end.size.value_or(static_cast<uint32_t>(directory.size()));
  return file + directory + end.before + "PK\5\6" + little_endian(end.disk) + little_endian(end.disk) +
         little_endian(count) + little_endian(count) + little_endian(size) + little_endian(offset) +
         little_endian(static_cast<uint16_t>(end.comment.size())) + end.comment + end.behind;
}

std::string read_from(const std::string& archive, std::string_view name) {
  ZipReader zip(memory_file(archive), "x.zip", inflate_limit);
  const auto* entry = zip.find(name);
  return entry ? std::string(text_of(zip.read(*entry).bytes)) : "none";
}

std::string refusal_of(const std::string& archive, const std::string& name = "a") {
  return refusal([&] { read_from(archive, name); });
}

TEST(Zip, ReadsStoredAndDeflatedEntries) {
  const std::string archive = archive_of(
      {stored("b/one", "1"), compressed("a", std::string(5000, 'x')), stored("empty", ""), compressed("e", "")},
      {.comment = "a comment"});
  EXPECT_EQ(read_from(archive, "b/one"), "1");
  EXPECT_EQ(read_from(archive, "a"), std::string(5000, 'x'));
  EXPECT_EQ(read_from(archive, "empty"), "");
  EXPECT_EQ(read_from(archive, "e"), "");
  EXPECT_EQ(read_from(archive, "b"), "none");
  EXPECT_EQ(read_from(archive_of({}), "b"), "none");
}

TEST(Zip, DescriptorsBehindTheDataAreReadAndChecked) {
  Entry entry = stored("a", "content");
  entry.local.flags = entry.central.flags = 8;
  entry.local.crc = entry.local.size = entry.local.compressed_size = 0;
  const std::string crc = little_endian(crc_of("content"));
  for (const std::string& sizes :
       {little_endian(7) + little_endian(7), little_endian(uint64_t{7}) + little_endian(uint64_t{7})})
    for (const std::string signature : {"", "PK\7\x08"}) {
      entry.behind = signature + crc + sizes;
      EXPECT_EQ(read_from(archive_of({entry, stored("b", "")}), "a"), "content");
      entry.behind[entry.behind.size() - sizes.size()] ^= 1;
      EXPECT_THAT(refusal_of(archive_of({entry, stored("b", "")})), HasSubstr("zip entry a"));
    }
  entry.behind = "";
  EXPECT_THAT(refusal_of(archive_of({entry})), HasSubstr("not followed by"));
}

TEST(Zip, WrongChecksumIsRefused) {
  for (auto entry : {stored("a", "content"), compressed("a", std::string(500, 'c'))}) {
    entry.local.crc ^= 1;
    entry.central.crc ^= 1;
    EXPECT_THAT(refusal_of(archive_of({entry})), HasSubstr("x.zip: a does not have its checksum"));
  }
  std::string archive = archive_of({stored("a", "content")});
  archive[archive.find("content")] = 'C';
  EXPECT_THAT(refusal_of(archive), HasSubstr("checksum"));
}

TEST(Zip, DuplicateNamesAreRefused) {
  EXPECT_THAT(refusal_of(archive_of({stored("a", "1"), stored("b", ""), stored("a", "2")})),
              HasSubstr("two entries named a"));
}

TEST(Zip, OverlappingEntriesAreRefused) {
  Entry second = stored("b", "2");
  second.offset = 0;
  EXPECT_THAT(refusal_of(archive_of({stored("a", "1"), second})), HasSubstr("do not trust this file"));
  // A whole entry inside the data of another: each header by itself is right.
  const std::string inner = archive_of({stored("b", "2")}).substr(0, 32);
  Entry outer = stored("a", "x" + inner);
  second.offset = 32;
  EXPECT_THAT(refusal_of(archive_of({outer, second})), HasSubstr("zip entry a overlaps the next one"));
  // The same data under many names, as in bombs.
  std::vector<Entry> quoted(3, stored("a", "1"));
  for (size_t i = 0; i < quoted.size(); ++i)
    quoted[i].central.name = std::string(1, static_cast<char>('a' + i)), quoted[i].offset = 0;
  EXPECT_THAT(refusal_of(archive_of(quoted)), HasSubstr("do not trust this file"));
}

TEST(Zip, BytesBetweenEntriesAreRefused) {
  Entry entry = stored("a", "1");
  entry.behind = "hidden";
  EXPECT_THAT(refusal_of(archive_of({entry, stored("b", "2")})), HasSubstr("not followed by"));
  EXPECT_THAT(refusal_of(archive_of({entry})), HasSubstr("not followed by"));
}

TEST(Zip, LyingHeadersAreRefused) {
  const auto with = [](auto change) {
    Entry entry = compressed("a", std::string(500, 'c'));
    change(entry);
    return archive_of({entry, stored("b", "b")});
  };
  EXPECT_EQ(read_from(with([](Entry&) {}), "a").size(), 500u);
  EXPECT_THAT(refusal_of(with([](Entry& e) { e.local.size = 1; })), HasSubstr("contradicts"));
  EXPECT_THAT(refusal_of(with([](Entry& e) { e.local.crc = 1; })), HasSubstr("contradicts"));
  EXPECT_THAT(refusal_of(with([](Entry& e) { e.local.name = "c"; })), HasSubstr("contradicts"));
  EXPECT_THAT(refusal_of(with([](Entry& e) { e.local.method = 0; })), HasSubstr("contradicts"));
  EXPECT_THAT(refusal_of(with([](Entry& e) { e.local.flags = 8; })), HasSubstr("contradicts"));
  EXPECT_THAT(refusal_of(with([](Entry& e) { e.central.size = 501; })), HasSubstr("contradicts"));
  EXPECT_THAT(refusal_of(with([](Entry& e) { e.local.extra = "\1\0\xff\xff"s; })), HasSubstr("x.zip: "));
  EXPECT_THAT(refusal_of(with([](Entry& e) { e.central.extra = "\1\0\xff\xff"s; })), HasSubstr("x.zip: "));
  for (const uint32_t size : {0u, 499u, 501u, 100000u})
    EXPECT_THAT(refusal_of(with([&](Entry& e) { e.local.size = e.central.size = size; })),
                HasSubstr("does not decompress to its size"));
  for (const uint32_t size : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xfffffffeu, 0xffffffffu}) {
    EXPECT_THAT(refusal_of(with([&](Entry& e) { e.local.compressed_size = e.central.compressed_size = size; })),
                HasSubstr("x.zip: "));
    if (size != 0) {
      EXPECT_THAT(refusal_of(with([&](Entry& e) { e.offset = size; })), HasSubstr("x.zip: "));
    }
    Entry entry = stored("a", "content");
    entry.local.size = entry.central.size = size;
    EXPECT_THAT(refusal_of(archive_of({entry})), HasSubstr("x.zip: "));
    entry.local.compressed_size = entry.central.compressed_size = size;
    EXPECT_THAT(refusal_of(archive_of({entry})), HasSubstr("x.zip: "));
  }
}

TEST(Zip, LyingEndIsRefused) {
  const std::vector<Entry> entries{stored("a", "1"), stored("b", "2")};
  EXPECT_EQ(read_from(archive_of(entries), "a"), "1");
  for (const uint16_t count : {0, 1, 3, 0xffff})
    EXPECT_THAT(refusal_of(archive_of(entries, {.entries = count})), HasSubstr("x.zip: "));
  for (const uint32_t number : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
    EXPECT_THAT(refusal_of(archive_of(entries, {.size = number})), HasSubstr("x.zip: "));
    EXPECT_THAT(refusal_of(archive_of(entries, {.offset = number})), HasSubstr("x.zip: "));
  }
  EXPECT_THAT(refusal_of(archive_of(entries, {.disk = 1})), HasSubstr("split zip archive"));
  EXPECT_THAT(refusal_of(archive_of(entries, {.before = "hidden"})), HasSubstr("contradicts its end"));
}

TEST(Zip, OneEndIsTheOnlyEnd) {
  const std::string archive = archive_of({stored("a", "1")}), end = archive.substr(archive.find("PK\5\6"));
  EXPECT_THAT(refusal_of(archive + "x"), HasSubstr("bytes behind the end"));
  EXPECT_THAT(refusal_of(archive + end), HasSubstr("x.zip: "));
  EXPECT_THAT(refusal_of(archive + archive), HasSubstr("x.zip: "));
  EXPECT_THAT(refusal_of(archive_of({stored("a", "1")}, {.comment = end})), HasSubstr("x.zip: "));
  EXPECT_THAT(refusal_of(archive_of({stored("a", "1")}, {.behind = std::string(70000, ' ')})),
              HasSubstr("without its end"));
  Entry entry = stored("a", "1");
  entry.central.extra = "FB\x16\0"s + end;
  EXPECT_THAT(refusal_of(archive_of({entry})), HasSubstr("two ends"));
}

TEST(Zip, UnsafeNamesAreRefused) {
  for (const std::string& name :
       std::vector<std::string>{"../x", "a/../x", "a/..", "..", "/x", "a//x", "./x", "a\\x", "a\0x"s, ""s})
    EXPECT_THAT(refusal_of(archive_of({stored(name, "1")})), HasSubstr("no safe name")) << name;
  EXPECT_EQ(read_from(archive_of({stored("a/..b", "1"), stored("folder/", "")}), "a/..b"), "1");
}

TEST(Zip, EncryptedAndUnknownEntriesAreRefused) {
  const auto with = [](uint16_t flags, uint16_t method) {
    Entry entry = stored("a", "1");
    entry.local.flags = entry.central.flags = flags;
    entry.local.method = entry.central.method = method;
    return archive_of({entry});
  };
  EXPECT_THAT(refusal_of(with(1, 0)), HasSubstr("encrypted"));
  EXPECT_THAT(refusal_of(with(1 << 6, 0)), HasSubstr("unknown flags"));
  EXPECT_THAT(refusal_of(with(1 << 13, 0)), HasSubstr("unknown flags"));
  for (const uint16_t method : {1, 9, 12, 14, 93, 99})
    EXPECT_THAT(refusal_of(with(0, method)), HasSubstr("unknown way"));
}

TEST(Zip, DeflateBombIsRefused) {
  const std::string zeros(inflate_limit, '\0');
  EXPECT_EQ(read_from(archive_of({compressed("a", zeros)}), "a"), zeros);
  EXPECT_THAT(refusal_of(archive_of({compressed("a", zeros + "0")})), HasSubstr("zip it again without compression"));
  EXPECT_THAT(refusal_of(archive_of({compressed("a", zeros), compressed("b", "0")})), HasSubstr("more than 1 MiB"));
  // A header that gives a smaller size than the data has.
  Entry bomb = compressed("a", std::string(100 << 20, '\0'));
  bomb.local.size = bomb.central.size = 10;
  const std::string archive = archive_of({bomb});
  expect_modest(64 << 20, [&] { EXPECT_THAT(refusal_of(archive), HasSubstr("impossible sizes")); });
  bomb.local.size = bomb.central.size = 1 << 19;
  const std::string modest = archive_of({bomb});
  expect_modest(64 << 20, [&] { EXPECT_THAT(refusal_of(modest), HasSubstr("does not decompress to its size")); });
}

TEST(Zip, ManyEntriesAreRefusedEarly) {
  std::string archive;
  ZipWriter zip([&](std::span<const std::byte> bytes) { archive += text_of(bytes); });
  for (int i = 0; i < 100'001; ++i) zip.add(std::to_string(i), "");
  zip.finish();
  EXPECT_THAT(refusal_of(archive), HasSubstr("more than 100000"));
}

TEST(Zip, EveryTruncationIsRefused) {
  const std::string archive = archive_of({stored("a", "1"), compressed("b", "22")});
  for (size_t size = 0; size < archive.size(); ++size)
    EXPECT_THROW(read_from(archive.substr(0, size), "a"), InputError) << size;
}

TEST(Zip, ChangedBytesNeverChangeContentSilently) {
  const std::string archive = archive_of({stored("a", "content"), compressed("b", std::string(100, 'b'))});
  for (size_t i = 0; i < archive.size(); ++i)
    for (const char change : {'\1', '\x80', '\xff'}) {
      std::string changed = archive;
      changed[i] = static_cast<char>(changed[i] ^ change);
      try {
        const auto a = read_from(changed, "a"), b = read_from(changed, "b");
        EXPECT_TRUE(a == "content" && b == std::string(100, 'b')) << "byte " << i;
      } catch (const InputError&) {
      }
    }
}

std::string written(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string archive;
  ZipWriter zip([&](std::span<const std::byte> bytes) { archive += text_of(bytes); });
  for (const auto& [name, content] : entries) zip.add(name, content);
  zip.finish();
  return archive;
}

TEST(ZipWriter, AlignsEveryEntryTo64Bytes) {
  std::vector<std::pair<std::string, std::string>> entries;
  for (size_t i = 0; i < 130; ++i) entries.emplace_back("name" + std::string(i, 'n'), std::string(i, 'c'));
  ZipReader zip(memory_file(written(entries)), "x.zip", 0);
  ASSERT_EQ(zip.entries().size(), entries.size());
  for (const auto& [name, content] : entries) {
    const auto* entry = zip.find(name);
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->data_offset % 64, 0u);
    EXPECT_EQ(text_of(zip.read(*entry).bytes), content);
  }
}

TEST(ZipWriter, ManyEntriesUseZip64) {
  std::vector<std::pair<std::string, std::string>> entries;
  for (int i = 0; i < 70'000; ++i) entries.emplace_back(std::to_string(i), "");
  const std::string archive = written(entries);
  EXPECT_NE(archive.find("PK\6\6"), archive.npos);
  ZipReader zip(memory_file(archive), "x.zip", 0);
  EXPECT_EQ(zip.entries().size(), 70'000u);
  EXPECT_NE(zip.find("69999"), nullptr);
}

TEST(ZipWriter, UnsafeNamesAreRefused) {
  ZipWriter zip([](std::span<const std::byte>) {});
  EXPECT_THROW(zip.add("../x", ""), Error);
  EXPECT_THROW(zip.add("", ""), Error);
}

}  // namespace
}  // namespace igpt::formats
