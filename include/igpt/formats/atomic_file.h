#pragma once

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "igpt/formats/file_descriptor.h"

namespace igpt::formats {

/// A file that appears under its name complete or not at all: it is written beside the target under a temporary name,
/// flushed to disk and renamed, and the folder is flushed. A target that is a symbolic link stays one: the file that it
/// leads to is replaced or created. Every call throws igpt::Error that names the file and the cause (disk full, no
/// permission, target is a folder, links in a circle, a file that is mounted by itself, which cannot be replaced); the
/// target is then what it was before and nothing else is left behind.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  AtomicFile(AtomicFile&&) noexcept;
  ~AtomicFile();  ///< Removes the temporary file unless it was published.

  void write(std::span<const std::byte> bytes);
  void write(std::string_view bytes);

  /// Waits until everything that was written is on the disk.
  void flush();

  /// Flushes the content and gives it the target's name. Call once.
  void publish();

 private:
  std::filesystem::path target_;     // as given
  std::filesystem::path place_;      // where its links lead
  std::filesystem::path temporary_;  // the name until it is published
  FileDescriptor file_;
};

/// The same in one call.
void write_atomically(const std::filesystem::path& target, std::string_view bytes);

/// Throws igpt::UsageError where `target` is one of `others`, files that the same command reads or writes (empty names
/// aside), and igpt::Error where it cannot be written. For before the work: afterwards is late.
void expect_writable(const std::filesystem::path& target, std::initializer_list<std::string> others);

/// What to do about a file that cannot be written because of `error` (errno), to end a message with: "; free some space
/// and try again". Empty where nothing is known to help.
std::string what_helps(int error);

/// The file that is replaced when `target` is written: `target` itself, or where its symbolic links lead. Throws as
/// AtomicFile does where no file can be written.
std::filesystem::path place_of(const std::filesystem::path& target);

/// Removes the temporary files that killed programs left beside `target`, but not those of running processes.
void remove_abandoned(const std::filesystem::path& target);

}  // namespace igpt::formats
