#include "igpt/formats/append_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "igpt/error.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

TEST(AppendFile, GrowsByWhatIsAppendedAndIsReadMeanwhile) {
  const TemporaryFolder folder;
  igpt::testing::write_bytes(folder / "a", "header\n");
  AppendFile file(folder / "a");
  file.append("one\n");
  EXPECT_EQ(read_bytes(folder / "a"), "header\none\n");
  AppendFile moved(std::move(file));
  moved.append("two\n");
  moved.flush();
  EXPECT_EQ(read_bytes(folder / "a"), "header\none\ntwo\n");
  EXPECT_THAT([&] { AppendFile(folder / "none"); },
              ThrowsMessage<Error>(HasSubstr("none: cannot open: No such file or directory")));
}

TEST(AppendFile, WhatDoesNotFitLeavesNothingOfItself) {
  const TemporaryFolder folder;
  igpt::testing::write_bytes(folder / "a", "");
  AppendFile file(folder / "a");
  file.append("whole\n");
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit tight = before;
  tight.rlim_cur = 8;  // two bytes more
  setrlimit(RLIMIT_FSIZE, &tight);
  EXPECT_THAT([&] { file.append("torn\n"); }, ThrowsMessage<Error>(HasSubstr("a: cannot write: File too large")));
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_EQ(read_bytes(folder / "a"), "whole\n");
  file.append("again\n");
  EXPECT_EQ(read_bytes(folder / "a"), "whole\nagain\n");
  EXPECT_THAT([&] { AppendFile("/dev/full", FileDescriptor(::open("/dev/full", O_WRONLY))).append("x"); },
              ThrowsMessage<Error>(HasSubstr("/dev/full: cannot write: No space left on device; free some space")));
}

}  // namespace
}  // namespace igpt::formats
