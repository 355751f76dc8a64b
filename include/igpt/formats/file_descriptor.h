#pragma once

#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace igpt::formats {

/// Owns an open file or folder and closes it at the end of its life; -1: none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor = -1) : descriptor_(descriptor) {}
  FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~FileDescriptor() { close(); }

  int get() const { return descriptor_; }
  explicit operator bool() const { return descriptor_ >= 0; }

  /// Whether all that was written is known to have been accepted; errno says why not.
  bool close() { return descriptor_ < 0 || ::close(std::exchange(descriptor_, -1)) == 0; }

 private:
  int descriptor_;
};

/// Writes all the bytes at the file's position; false with errno set when they cannot be written.
bool write_all(const FileDescriptor& file, std::span<const std::byte> bytes);

/// Makes the names in a folder durable. Some file systems cannot flush a folder, which loses nothing.
void flush_folder(const std::filesystem::path& folder);

}  // namespace igpt::formats
