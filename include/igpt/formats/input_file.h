#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "igpt/formats/file_descriptor.h"

namespace igpt::formats {

/// Bytes and what keeps them alive.
struct SharedBytes {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

/// A regular file, read from its start or at any place. Folders, pipes and devices are refused, so that opening never
/// waits and `size` is true. Throws igpt::InputError that names the file and what to do.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const { return size_; }          ///< bytes, when it was opened
  uint64_t position() const { return position_; }  ///< bytes read so far

  /// Reads the next bytes, as many as there are; returns their number, 0 at the end.
  size_t read(std::span<std::byte> into);

  /// Reads the next into.size() bytes; throws igpt::InputError when the file ends before.
  void read_exactly(std::span<std::byte> into);

  /// `count` bytes from `offset` on, which must lie inside `size`; does not move the position. Throws igpt::InputError
  /// when the file became shorter meanwhile or they do not fit into memory.
  SharedBytes read_at(uint64_t offset, uint64_t count) const;

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  uint64_t size_ = 0, position_ = 0;
};

/// A whole file. Throws igpt::InputError when it is larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, uint64_t max_bytes);

}  // namespace igpt::formats
