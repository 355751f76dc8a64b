#pragma once

#include <filesystem>
#include <span>
#include <string_view>

namespace igpt::formats {

/// A file that appears under its name complete or not at all: written beside the target under a temporary name,
/// flushed to disk, renamed, and the folder flushed. Every call throws igpt::Error that names the file and the cause
/// (disk full, no permission, target is a folder); the target is then what it was before and nothing else is left.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  AtomicFile(AtomicFile&&) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();  ///< Removes the temporary file unless it was published.

  void write(std::span<const std::byte> bytes);
  void write(std::string_view bytes);

  /// Flushes the content and gives it the target's name. Call once.
  void publish();

 private:
  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
};

/// The same in one call.
void write_atomically(const std::filesystem::path& target, std::string_view bytes);

/// Removes the temporary files that killed programs left beside `target`. A file that a living process still writes
/// stays.
void remove_abandoned(const std::filesystem::path& target);

}  // namespace igpt::formats
