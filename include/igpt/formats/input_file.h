#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace igpt::formats {

/// A regular file read from its start. What is no file (a folder, a pipe, a device) is refused, so that opening never
/// waits and `size` is true. Throws igpt::InputError that names the file and what to do.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const { return size_; }          ///< bytes, when it was opened
  uint64_t position() const { return position_; }  ///< bytes read so far

  /// The next bytes, as many as there are; returns their number, 0 at the end.
  size_t read(std::span<std::byte> into);

  /// The next into.size() bytes; throws igpt::InputError when the file ends before.
  void read_exactly(std::span<std::byte> into);

  /// The into.size() bytes from `offset` on; does not move the position. Throws as read_exactly.
  void read_at(uint64_t offset, std::span<std::byte> into) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  uint64_t size_ = 0, position_ = 0;
};

/// A whole file. Throws igpt::InputError when it is larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, uint64_t max_bytes);
std::vector<std::byte> read_bytes(const std::filesystem::path& path, uint64_t max_bytes);

}  // namespace igpt::formats
