#include "igpt/formats/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "igpt/error.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::HasSubstr;
using Names = std::set<std::string>;

template <class Work>
std::string message_of(Work work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  ADD_FAILURE() << "did not fail";
  return "";
}

// Runs `work` in another process, which it may end or limit; returns the status of waitpid.
template <class Work>
int in_child(Work work) {
  const pid_t child = fork();
  if (child == 0) {
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

TEST(AtomicFile, AppearsOnlyWhenPublished) {
  const TemporaryFolder folder;
  AtomicFile file(folder / "a");
  file.write("one ");
  file.write("two");
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
  file.publish();
  EXPECT_EQ(read_bytes(folder / "a"), "one two");
  EXPECT_EQ(folder.names(), Names{"a"});
}

TEST(AtomicFile, ReplacesTheOldFileAsAWhole) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "the old content");
  AtomicFile file(folder / "a");
  file.write("new");
  EXPECT_EQ(read_bytes(folder / "a"), "the old content");
  file.publish();
  EXPECT_EQ(read_bytes(folder / "a"), "new");
}

TEST(AtomicFile, AbandonedOneLeavesNothing) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
    const AtomicFile moved(std::move(file));
  }
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(folder.names(), Names{"a"});
}

TEST(AtomicFile, TwoWritersOfOneTargetDoNotMix) {
  const TemporaryFolder folder;
  AtomicFile first(folder / "a"), second(folder / "a");
  first.write("first");
  second.write("second");
  first.publish();
  second.publish();
  EXPECT_EQ(read_bytes(folder / "a"), "second");
  EXPECT_EQ(folder.names(), Names{"a"});
}

TEST(AtomicFile, TargetsThatCannotBeAreNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { write_atomically(folder.path(), ""); }), HasSubstr("is a folder"));
  EXPECT_THAT(message_of([&] { write_atomically(folder / "", ""); }), HasSubstr("is a folder"));
  EXPECT_THAT(message_of([&] { write_atomically(folder / "none" / "a", ""); }), HasSubstr("create its folder first"));
  EXPECT_THAT(message_of([&] { write_atomically("/proc/igpt", ""); }), HasSubstr("/proc/igpt: cannot create"));
  EXPECT_THAT(message_of([&] { write_atomically("/dev/full", ""); }), HasSubstr("/dev/full: is not a regular file"));
}

// A link to a link, one of them in another folder and relative to it.
TEST(AtomicFile, LinksStayAndTheirTargetIsReplaced) {
  namespace fs = std::filesystem;
  const TemporaryFolder folder;
  fs::create_directories(folder / "elsewhere/deep");
  fs::create_symlink("elsewhere/deep/link", folder / "a");
  fs::create_symlink("../target", folder / "elsewhere/deep/link");
  for (const std::string content : {"made", "replaced"}) {
    AtomicFile file(folder / "a");
    file.write(content);
    EXPECT_EQ(folder.names("elsewhere").size(), content == "made" ? 2u : 3u) << "the temporary file is beside it";
    file.publish();
    EXPECT_EQ(read_bytes(folder / "elsewhere/target"), content);
  }
  EXPECT_EQ(fs::read_symlink(folder / "a"), "elsewhere/deep/link");
  EXPECT_TRUE(fs::is_symlink(folder / "elsewhere/deep/link"));
  EXPECT_EQ(folder.names("elsewhere"), (Names{"deep", "target"}));
  EXPECT_EQ(folder.names(), (Names{"a", "elsewhere"}));
  write_bytes(folder / "elsewhere/.target.999999999.0.tmp", "of a killed one");
  remove_abandoned(folder / "a");
  EXPECT_EQ(folder.names("elsewhere"), (Names{"deep", "target"}));
}

TEST(AtomicFile, LinksThatLeadNowhereAreNamed) {
  namespace fs = std::filesystem;
  const TemporaryFolder folder;
  fs::create_symlink("b", folder / "a");
  fs::create_symlink("a", folder / "b");
  fs::create_symlink("none/c", folder / "c");
  EXPECT_THAT(message_of([&] { write_atomically(folder / "a", ""); }),
              ::testing::AllOf(HasSubstr("/a: cannot follow the link: Too many levels of symbolic links; remove")));
  EXPECT_THAT(message_of([&] { write_atomically(folder / "a/x", ""); }),
              HasSubstr("Too many levels of symbolic links"));
  EXPECT_EQ(message_of([&] { write_atomically(folder / "c", ""); }),
            (folder / "c").string() + ", a link to " + (folder / "none/c").string() +
                ": cannot create: No such file or directory; create its folder first");
  EXPECT_EQ(folder.names(), (Names{"a", "b", "c"}));
  remove_abandoned(folder / "a");
}

TEST(AtomicFile, WhatHelpsIsSaid) {
  EXPECT_THAT(what_helps(EMFILE), HasSubstr("ulimit -n"));
  EXPECT_THAT(what_helps(EFBIG), HasSubstr("ulimit -f"));
  EXPECT_THAT(what_helps(ENOSPC), HasSubstr("free some space"));
  EXPECT_EQ(what_helps(EIO), "");
}

// /dev/stdout leads to what the shell has opened, /proc/self/fd/N to a file that may be gone.
TEST(AtomicFile, OpenFilesThatHaveNoNameAreRefused) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "");
  FILE* const file = std::fopen((folder / "a").c_str(), "r");
  const auto number = "/proc/self/fd/" + std::to_string(fileno(file));
  write_atomically(number, "new");
  EXPECT_EQ(read_bytes(folder / "a"), "new");
  EXPECT_THAT(message_of([&] { write_atomically(number, ""); }), HasSubstr("is not a regular file"));
  EXPECT_EQ(folder.names(), Names{"a"});
  std::fclose(file);
}

TEST(AtomicFile, AFileThatIsMountedByItselfIsRefusedAtOnce) {
  const TemporaryFolder folder;
  write_bytes(folder / "outside", "old");
  write_bytes(folder / "a", "");
  std::filesystem::create_symlink("a", folder / "link");
  if (::mount((folder / "outside").c_str(), (folder / "a").c_str(), nullptr, MS_BIND, nullptr) != 0)
    GTEST_SKIP() << "may not mount";
  for (const char* name : {"a", "link"})
    EXPECT_THAT(message_of([&] { AtomicFile file(folder / name); }),
                HasSubstr(std::string("/") + name + ": is mounted by itself (docker run -v FILE:FILE)"));
  EXPECT_EQ(read_bytes(folder / "outside"), "old");
  EXPECT_EQ(folder.names(), (Names{"a", "link", "outside"}));
  ::umount2((folder / "a").c_str(), MNT_DETACH);
}

// RLIMIT_FSIZE stands for a full disk: both make write() fail after some bytes.
TEST(AtomicFile, FailedWriteKeepsTheOldFileAndLeavesNothing) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "old");
  const int status = in_child([&] {
    const rlimit limit{1000, 1000};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_atomically(folder / "a", std::string(5000, 'x'));
    } catch (const Error& error) {
      _exit(std::string_view(error.what()).find("cannot write") != std::string_view::npos ? 7 : 8);
    }
  });
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(folder.names(), Names{"a"});
}

TEST(AtomicFile, KilledWriterLeavesTheOldFileAndTheNextStartCleansUp) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "old");
  write_bytes(folder / ".a.notes.tmp", "a user's");
  in_child([&] {
    AtomicFile file(folder / "a");
    file.write("new");
    raise(SIGKILL);
  });
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(folder.names().size(), 3u);
  remove_abandoned(folder / "a");
  EXPECT_EQ(folder.names(), (Names{"a", ".a.notes.tmp"}));
}

TEST(RemoveAbandoned, LeavesWhatALivingProcessWrites) {
  const TemporaryFolder folder;
  int ready[2], done[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(done), 0);
  const pid_t child = fork();
  if (child == 0) {
    AtomicFile file(folder / "a");
    file.write("new");
    char byte = 0;
    const bool told = write(ready[1], "x", 1) == 1 && read(done[0], &byte, 1) == 1;
    if (told) file.publish();
    _exit(told ? 0 : 1);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  remove_abandoned(folder / "a");
  ASSERT_EQ(write(done[1], "x", 1), 1);
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_bytes(folder / "a"), "new");
  for (const int end : {ready[0], ready[1], done[0], done[1]}) close(end);
}

}  // namespace
}  // namespace igpt::formats
