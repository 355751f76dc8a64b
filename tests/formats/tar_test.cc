#include "igpt/formats/tar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "compressed.h"
#include "formats/hostile.h"
#include "memory_file.h"
#include "picture_files.h"

namespace igpt::formats {
namespace {

using igpt::testing::gzip;
using igpt::testing::MemoryFile;
using igpt::testing::tar_end;
using igpt::testing::tar_entry;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::map<std::string, std::string> read_all(const std::string& bytes, const TarLimits& limits = {},
                                            uint64_t max_bytes = 1 << 20) {
  const MemoryFile file(bytes);
  TarReader reader(file.path(), limits);
  std::map<std::string, std::string> files;
  while (const auto entry = reader.next()) {
    files[entry->name] = reader.read(max_bytes);
    EXPECT_EQ(files[entry->name].size(), entry->size);
  }
  return files;
}

std::string refused(const std::string& bytes, const TarLimits& limits = {}, uint64_t max_bytes = 1 << 20) {
  return refusal([&] { read_all(bytes, limits, max_bytes); });
}

TEST(Tar, ReadsPlainAndGzip) {
  const std::string large(100'000, 'x');
  const std::string tar = tar_entry("a", "one") + tar_entry("b/c.bin", large) + tar_entry("empty", "") + tar_end();
  for (const std::string& file : {tar, gzip(tar)})
    EXPECT_THAT(read_all(file), ElementsAre(Pair("a", "one"), Pair("b/c.bin", large), Pair("empty", "")));
}

TEST(Tar, WhatIsNotReadIsPassedOver) {
  const MemoryFile file(tar_entry("a", std::string(5000, 'a')) + tar_entry("b", "two") + tar_end());
  TarReader reader(file.path());
  EXPECT_EQ(reader.next()->name, "a");
  EXPECT_EQ(reader.next()->name, "b");
  EXPECT_EQ(reader.read(100), "two");
  EXPECT_FALSE(reader.next());
}

TEST(Tar, FoldersLinksAndDevicesAreNotFiles) {
  std::string tar = tar_entry("folder/", "", '5') + tar_entry("device", "", '3') + tar_entry("pipe", "", '6');
  std::string link = tar_entry("link", "", '2');
  EXPECT_THAT(read_all(tar + link + tar_entry("a", "one") + tar_end()), ElementsAre(Pair("a", "one")));
}

TEST(Tar, NamesThatLeadOutsideAreRefused) {
  for (const char* name : {"../x", "a/../../x", "/etc/passwd", "..", "a/.."})
    EXPECT_THAT(refused(tar_entry(name, "x") + tar_end()), HasSubstr("outside of itself")) << name;
  EXPECT_THAT(read_all(tar_entry("..a/b..", "x") + tar_end()), ElementsAre(Pair("..a/b..", "x")));
}

TEST(Tar, LimitsHold) {
  const std::string tar = tar_entry("a", "12345") + tar_entry("b", "12345") + tar_end();
  EXPECT_THAT(refused(tar, {.entries = 1}), HasSubstr("more than 1 entries"));
  EXPECT_THAT(refused(tar, {.bytes = 9}), HasSubstr("more than the 9 bytes"));
  EXPECT_EQ(read_all(tar, {.entries = 2, .bytes = 10}).size(), 2u);
  EXPECT_THAT(refused(tar, {}, /*max_bytes=*/4), HasSubstr("a in it has 5 bytes, more than the 4"));
}

TEST(Tar, BombsFillNeitherMemoryNorTime) {
  const std::string bomb = gzip(tar_entry("a", "", '0', "77777777777") + std::string(50 << 20, '\0'));
  expect_modest(uint64_t{16} << 20, [&] {
    refused(bomb, {.bytes = 1 << 20});
    refused(bomb);
  });
}

TEST(Tar, EveryTruncationOfItsFilesIsOneLine) {
  const std::string tar = tar_entry("a", "one") + tar_entry("b", std::string(600, 'b'));
  for (size_t size = 0; size < tar.size(); size += 7)
    if (size % 512 != 0 || size == 0) {
      const MemoryFile file(tar.substr(0, size));
      if (size == 0 || (size > 3 + 512 && size < 1024)) continue;  // empty, or only padding is missing
      refused(tar.substr(0, size));
    }
  const std::string compressed = gzip(tar + tar_end());
  for (size_t size = 1; size + 40 < compressed.size(); ++size) refused(compressed.substr(0, size));
}

TEST(Tar, OtherFilesAreRefused) {
  for (const std::string& file :
       {std::string("PK\3\4"), std::string(2000, 'x'), gzip("hello"), std::string("\x1f\x8b")})
    EXPECT_THAT(refused(file), HasSubstr("is not a .tar or .tar.gz that can be read"));
  EXPECT_THAT(refusal([] { TarReader("/nowhere.tar"); }), HasSubstr("no such file"));
}

}  // namespace
}  // namespace igpt::formats
