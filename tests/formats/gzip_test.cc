#include "igpt/formats/gzip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "compressed.h"
#include "igpt/error.h"
#include "memory_file.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using namespace std::string_literals;
using igpt::testing::gzip;
using igpt::testing::MemoryFile;
using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr uint64_t kPlenty = 1 << 20;

std::string gunzip(std::string_view compressed, uint64_t max_bytes = kPlenty) {
  return read_plain_or_gzip(MemoryFile(compressed).path(), max_bytes);
}

std::string sample(size_t size) {
  std::string text;
  for (uint32_t state = 1; text.size() < size; state = state * 1664525 + 1013904223)
    text += state >> 31 ? static_cast<char>(state >> 24) : 'a';
  return text;
}

TEST(Gzip, RoundTripsAnySizeAndLevel) {
  for (const size_t size : {0, 1, 100, 65536, 300'000})
    for (const int level : {0, 1, 6, 9}) {
      const std::string text = sample(size);
      EXPECT_EQ(gunzip(gzip(text, level)), text) << size << " bytes at level " << level;
    }
}

TEST(Gzip, JoinsMembers) {
  EXPECT_EQ(gunzip(gzip("one ") + gzip("") + gzip(sample(100'000)) + gzip(" end")), "one " + sample(100'000) + " end");
}

TEST(Gzip, RefusesEveryTruncation) {
  const std::string file = gzip(sample(2000)) + gzip(sample(500));
  const size_t first = gzip(sample(2000)).size();
  for (size_t size = 2; size < file.size(); ++size) {  // shorter ones are plain files
    if (size == first) continue;                       // a whole file of one member
    EXPECT_THROW(gunzip(std::string_view(file).substr(0, size)), InputError) << "cut after " << size;
  }
}

TEST(Gzip, RefusesDamage) {
  const std::string file = gzip(sample(2000));
  for (const size_t trailer : {1, 5}) {  // length, CRC
    std::string damaged = file;
    damaged[damaged.size() - trailer] ^= 1;
    EXPECT_THAT([&] { gunzip(damaged); }, ThrowsMessage<InputError>(HasSubstr(": the compressed data is damaged")));
  }
  int accepted = 0;
  for (size_t i = 2; i < file.size(); ++i) {  // with other first bytes it is a plain file
    std::string damaged = file;
    damaged[i] = static_cast<char>(~damaged[i]);
    try {
      accepted += gunzip(damaged) != sample(2000);
    } catch (const InputError&) {
    }
  }
  EXPECT_EQ(accepted, 0) << "other bytes than those that were compressed";
}

TEST(Gzip, RefusesWhatFollowsTheData) {
  EXPECT_THROW(gunzip(gzip("abc") + "xyz"), InputError);
  EXPECT_THROW(gunzip(gzip("abc") + "\x1f"), InputError);
  const std::string zeros(100'000, '\0');  // more than one chunk
  for (const std::string& behind : {"\0x"s, zeros + "x", zeros + gzip("abc")})
    EXPECT_THAT([&] { gunzip(gzip("abc") + behind); },
                ThrowsMessage<InputError>(HasSubstr(": something that is not gzip follows")));
  EXPECT_THROW(gunzip(gzip("abc") + "\x1f" + zeros), InputError);
}

// As gzip -t accepts them.
TEST(Gzip, ZerosBehindTheLastMemberAreNoError) {
  for (const size_t zeros : {1, 8, 511, 200'000})
    EXPECT_EQ(gunzip(gzip("abc") + gzip("def") + std::string(zeros, '\0')), "abcdef") << zeros;
}

TEST(Gzip, ContentOfExactlyTheLimitIsRead) {
  EXPECT_EQ(gunzip(gzip(std::string(1000, 'x')), 1000).size(), 1000u);
  EXPECT_THROW(gunzip(gzip(std::string(1001, 'x')), 1000), InputError);
}

long peak_kilobytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST(Gzip, BombCannotFillMemory) {
  const std::string bomb = gzip(std::string(100 << 20, '\0'), 9);
  ASSERT_LT(bomb.size(), size_t{200'000});
  const long before = peak_kilobytes();
  EXPECT_THAT([&] { gunzip(bomb, 4 << 20); },
              ThrowsMessage<InputError>(HasSubstr(": decompresses to more than the 4194304 bytes")));
  EXPECT_LT(peak_kilobytes() - before, 8 << 10);
}

TEST(Gzip, FilesArePlainOrGzipAsTheirBytesSay) {
  TemporaryFolder folder;
  write_bytes(folder / "plain.gz", "plain");
  write_bytes(folder / "packed", gzip(sample(200'000)) + gzip("!"));
  write_bytes(folder / "empty", "");
  EXPECT_EQ(read_plain_or_gzip(folder / "plain.gz", 5), "plain");
  EXPECT_EQ(read_plain_or_gzip(folder / "packed", kPlenty), sample(200'000) + "!");
  EXPECT_EQ(read_plain_or_gzip(folder / "empty", kPlenty), "");
  EXPECT_THROW(read_plain_or_gzip(folder / "plain.gz", 4), InputError);
  EXPECT_THROW(read_plain_or_gzip(folder / "packed", 200'000), InputError);
}

TEST(InputFile, OnlyRegularFilesAreOpened) {
  TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THAT([&] { read_plain_or_gzip(folder / "missing", 5); }, ThrowsMessage<InputError>(HasSubstr("no such file")));
  EXPECT_THAT([&] { read_plain_or_gzip(folder.path(), 5); }, ThrowsMessage<InputError>(HasSubstr("is a folder")));
  EXPECT_THAT([&] { read_plain_or_gzip(folder / "pipe", 5); },
              ThrowsMessage<InputError>(HasSubstr("is not a regular file")));
  EXPECT_THROW(read_plain_or_gzip("/dev/zero", 5), InputError);
}

}  // namespace
}  // namespace igpt::formats
