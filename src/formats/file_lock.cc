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

Lock try_lock(int descriptor, LockKind kind) {
  const int operation = kind == LockKind::kExclusive ? LOCK_EX : LOCK_SH;
  while (::flock(descriptor, operation | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    // With an open file and a valid operation, any other error means that there are no locks here.
    return errno == EWOULDBLOCK ? Lock::kHeld : Lock::kUnknown;
  }
  return Lock::kTaken;
}

bool take_lock(int descriptor, LockKind kind, const std::filesystem::path& path, const NoteCallback& note) {
  static std::atomic<bool> told{false};
  const Lock lock = try_lock(descriptor, kind);
  const int error = errno;
  if (lock == Lock::kUnknown && note && !told.exchange(true))
    note(path.string() + ": its file system cannot lock files (" + in_words(error) +
         "); going on without locks, so start no other program that writes to the same folders");
  return lock != Lock::kHeld;
}

}  // namespace igpt::formats
