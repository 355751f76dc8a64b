#include "igpt/formats/file_lock.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using igpt::testing::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

// A file or folder, opened by itself: flock excludes two of them from each other.
class Opened {
 public:
  explicit Opened(const std::filesystem::path& path, int flags = O_RDONLY)
      : descriptor_(::open(path.c_str(), flags | O_CLOEXEC)) {}
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  ~Opened() { ::close(descriptor_); }
  bool lock(LockKind kind, const NoteCallback& note = {}) const { return take_lock(descriptor_, kind, "here", note); }

 private:
  int descriptor_;
};

TEST(FileLock, AnExclusiveOneExcludesAndSharedOnesDoNot) {
  const TemporaryFolder folder;
  const Opened second(folder.path()), third(folder.path());
  {
    const Opened first(folder.path());
    EXPECT_TRUE(first.lock(LockKind::kShared));
    EXPECT_TRUE(second.lock(LockKind::kShared));
    EXPECT_FALSE(third.lock(LockKind::kExclusive));
  }
  EXPECT_TRUE(second.lock(LockKind::kExclusive));
  EXPECT_FALSE(third.lock(LockKind::kShared));
}

// flock refuses descriptors of O_PATH, as some file systems refuse all.
TEST(FileLockDeathTest, WhereThereAreNoneThatIsSaidOnce) {
  const TemporaryFolder folder;
  const auto lock_twice = [&] {
    std::string said;
    const auto note = [&](const std::string& line) { said += line + "|"; };
    const Opened one(folder.path(), O_PATH), other(folder.path(), O_PATH);
    if (!one.lock(LockKind::kExclusive) || !one.lock(LockKind::kExclusive, note) ||
        !other.lock(LockKind::kShared, note))
      ::_exit(9);
    ::dprintf(STDERR_FILENO, "%s", said.c_str());
    ::_exit(0);
  };
  EXPECT_EXIT(lock_twice(), ::testing::ExitedWithCode(0),
              "^here: its file system cannot lock files \\(Bad file descriptor\\); going on without locks[^|]*[|]$");
}

}  // namespace
}  // namespace igpt::formats
