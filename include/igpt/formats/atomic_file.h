#pragma once

#include <filesystem>
#include <span>
#include <string_view>

namespace igpt::formats {

/// A file that appears under its name complete or not at all: written beside the target under a temporary name,
/// flushed to disk, renamed, and the folder flushed. A target that is a symbolic link stays one: the file that it leads
/// to is replaced, or made. Every call throws igpt::Error that names the file and the cause (disk full, no permission,
/// target is a folder, links in a circle, a file that is mounted by itself, which cannot be replaced); the target is
/// then what it was before and nothing else is left.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  AtomicFile(AtomicFile&&) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();  ///< Removes the temporary file unless it was published.

  void write(std::span<const std::byte> bytes);
  void write(std::string_view bytes);

  /// What was written is on the disk when it returns.
  void flush();

  /// Flushes the content and gives it the target's name. Call once.
  void publish();

 private:
  std::filesystem::path target_, place_, temporary_;  // as given, behind its links, and until it is published
  int descriptor_ = -1;
};

/// The same in one call.
void write_atomically(const std::filesystem::path& target, std::string_view bytes);

/// "; free some space and try again": how a message ends about a file that cannot be written for the cause `error`
/// (errno); empty where nothing is known to help.
std::string what_helps(int error);

/// The file that is replaced when `target` is written: `target` itself, or where its symbolic links lead. Throws as
/// AtomicFile does where there can be none.
std::filesystem::path place_of(const std::filesystem::path& target);

/// Removes the temporary files that killed programs left beside `target`. A file that a living process still writes
/// stays.
void remove_abandoned(const std::filesystem::path& target);

}  // namespace igpt::formats
