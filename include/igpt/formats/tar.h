#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace igpt::formats {

/// What an archive may hold; more is refused before it is decompressed.
struct TarLimits {
  uint64_t entries = 1'000'000;
  uint64_t bytes = uint64_t{1} << 40;  ///< of all entries together
};

/// A regular file in an archive.
struct TarEntry {
  std::string name;   ///< its path in the archive, relative and without ".."; of a stranger, not for opening files
  uint64_t size = 0;  ///< bytes, as its header says
};

/// The files of a .tar or .tar.gz, read one after the other. Nothing is written anywhere. Folders, links and devices
/// are passed over. Every call throws igpt::InputError with one line for a file that is neither, is cut short or
/// damaged, holds more than the limits allow, or names a place outside of itself ("../x", "/x").
class TarReader {
 public:
  explicit TarReader(const std::filesystem::path& path, const TarLimits& limits = {});
  ~TarReader();

  /// Goes on to the next file; nothing at the end.
  std::optional<TarEntry> next();

  /// The content of the file that `next` returned, at most `max_bytes`. Call once.
  std::string read(uint64_t max_bytes);

 private:
  class Archive;
  std::unique_ptr<Archive> archive_;
};

}  // namespace igpt::formats
