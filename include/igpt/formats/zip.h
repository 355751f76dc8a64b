#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "igpt/formats/input_file.h"

namespace igpt::formats {

/// The entries of a zip archive: stored or deflated, zip64 or not. Refuses everything that two readers could understand
/// in two ways: every byte of the archive belongs to exactly one entry, the directory or its end, and both copies of an
/// entry's header agree. An entry's content is read on demand. Format: PKWARE's APPNOTE.TXT 6.3.
class ZipReader {
 public:
  struct Entry {
    std::string_view name;  ///< lives as long as the reader
    uint64_t header_offset = 0;
    uint64_t data_offset = 0;
    uint64_t compressed_size = 0, size = 0;
    uint32_t crc = 0;
    uint16_t method = 0;  ///< 0 stored, 8 deflate
    bool has_descriptor = false;
  };

  /// `name` starts the messages. All deflated entries together may inflate to `inflate_limit` bytes. Throws InputError.
  ZipReader(std::shared_ptr<const InputFile> archive, std::string name, uint64_t inflate_limit);

  /// Sorted by name.
  const std::vector<Entry>& entries() const { return entries_; }
  const Entry* find(std::string_view name) const;

  /// The content of an entry, checked against its CRC.
  SharedBytes read(const Entry& entry) const;

 private:
  struct Directory;
  Directory find_directory() const;
  void read_directory(const Directory& directory);
  void check_local_headers(uint64_t directory_offset);
  void check_local_header(Entry& entry, uint64_t directory_offset, uint64_t next) const;
  SharedBytes inflate(const Entry& entry, std::span<const std::byte> compressed) const;

  std::shared_ptr<const InputFile> archive_;
  std::shared_ptr<const void> directory_;
  std::string name_;
  uint64_t inflate_limit_;
  std::vector<Entry> entries_;
};

/// Receives the bytes of a file, in order.
using Sink = std::function<void(std::span<const std::byte>)>;

/// Writes an archive of stored entries from front to back. Each entry's data starts at a multiple of 64 bytes (by a
/// padding field, as in PyTorch's archives, so that it can be mapped). Keeps only the directory in memory.
class ZipWriter {
 public:
  explicit ZipWriter(Sink sink) : sink_(std::move(sink)) {}

  void add(const std::string& name, std::span<const std::byte> content);
  void add(const std::string& name, std::string_view content);

  /// Writes the directory and the end. Call once.
  void finish();

 private:
  struct Written {
    std::string name;
    uint64_t offset, size;
    uint32_t crc;
  };
  void emit(const std::string& bytes);

  Sink sink_;
  uint64_t position_ = 0;
  std::vector<Written> written_;
};

}  // namespace igpt::formats
