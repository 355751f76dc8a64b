#include "igpt/formats/file_lock.h"

#include <sys/file.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace igpt::formats {
namespace {

constexpr int kNoSuchOperation = 524;  // the kernel's ENOTSUPP, which NFS passes on to programs

const char* in_words(int error) {
  return error == kNoSuchOperation ? "Operation not supported" : std::strerror(error);
}

}  // namespace

bool take_lock(int descriptor, LockKind kind, const std::filesystem::path& path, const NoteCallback& note) {
  static std::atomic<bool> told{false};
  const int operation = kind == LockKind::kExclusive ? LOCK_EX : LOCK_SH;
  while (::flock(descriptor, operation | LOCK_NB) != 0) {
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EWOULDBLOCK) return false;
    // With an open file and a valid operation, any other error means that there are no locks here.
    if (note && !told.exchange(true))
      note(path.string() + ": its file system cannot lock files (" + in_words(error) +
           "); going on without locks, so start no other program that writes to the same folders");
    return true;
  }
  return true;
}

}  // namespace igpt::formats
