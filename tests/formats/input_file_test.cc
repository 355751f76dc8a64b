#include "igpt/formats/input_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "formats/hostile.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using igpt::testing::TemporaryFolder;
using ::testing::HasSubstr;

TEST(InputFile, WhatIsNoFileIsNamed) {
  const TemporaryFolder folder;
  const auto pipe = folder.path() / "pipe";
  ::mkfifo(pipe.c_str(), 0600);
  EXPECT_THAT(refusal([&] { read_file(folder.path(), 9); }), HasSubstr("is a folder; give the name of a file"));
  EXPECT_THAT(refusal([&] { read_file(folder.path() / "none", 9); }), HasSubstr("no such file"));
  EXPECT_THAT(refusal([&] { read_file(pipe, 9); }), HasSubstr("not a regular file"));
  EXPECT_THAT(refusal([&] { read_file("/dev/zero", 9); }), HasSubstr("not a regular file"));
}

TEST(InputFile, LimitIsChecked) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "five") << "12345";
  EXPECT_EQ(read_file(folder.path() / "five", 5), "12345");
  EXPECT_THAT(refusal([&] { read_file(folder.path() / "five", 4); }), HasSubstr("has 5 bytes"));
}

}  // namespace
}  // namespace igpt::formats
