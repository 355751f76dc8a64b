#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace igpt::formats {

/// Bytes and what keeps them alive.
struct SharedBytes {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

/// Bytes that a parser asks for piece by piece, in any order: of a file, read only when they are asked for, or of
/// memory.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  virtual uint64_t size() const = 0;

  /// `count` bytes from `offset` on, which the caller knows to be there. Throws igpt::InputError when the file became
  /// shorter meanwhile or they do not fit into memory.
  virtual SharedBytes read(uint64_t offset, uint64_t count) const = 0;
};

/// A file; throws igpt::InputError as InputFile does.
std::shared_ptr<const ByteSource> open_source(const std::filesystem::path& path);

/// Memory, of which nothing is copied.
std::shared_ptr<const ByteSource> source_of(std::shared_ptr<const std::vector<std::byte>> bytes);

}  // namespace igpt::formats
