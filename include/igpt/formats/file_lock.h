#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace igpt::formats {

/// Told a line for the log; may be empty.
using NoteCallback = std::function<void(const std::string& line)>;

enum class LockKind { kShared, kExclusive };

/// Takes the lock of an open file or folder with flock(2), as long as it is open; false: another program holds it.
/// Where the file system has no such locks (Lustre, some NFS) it returns true, and `note` is told once in a program's
/// life that there are none, and of which `path` that was seen.
bool take_lock(int descriptor, LockKind kind, const std::filesystem::path& path, const NoteCallback& note);

}  // namespace igpt::formats
