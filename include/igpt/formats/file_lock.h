#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace igpt::formats {

/// Receives a line for the log; may be empty.
using NoteCallback = std::function<void(const std::string& line)>;

enum class LockKind { kShared, kExclusive };

/// What became of the wish for a lock. Unknown: the file system has no such locks (Lustre, some NFS); errno says more.
enum class Lock { kTaken, kHeld, kUnknown };

/// Locks an open file or folder with flock(2) for as long as it is open, unless another program holds the lock.
Lock try_lock(int descriptor, LockKind kind);

/// The same; false: another program holds the lock. Where the file system has no such locks it returns true, and calls
/// `note` once in the life of the program, naming `path`.
bool take_lock(int descriptor, LockKind kind, const std::filesystem::path& path, const NoteCallback& note);

}  // namespace igpt::formats
