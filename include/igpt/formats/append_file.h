#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

namespace igpt::formats {

/// A file that grows by whole pieces and is read meanwhile. Each piece is on its way to the disk when append returns,
/// so that a killed program loses none; one that does not fit on the disk leaves nothing of itself. Every call throws
/// igpt::Error that names the file and the cause.
class AppendFile {
 public:
  /// A file that exists.
  explicit AppendFile(std::filesystem::path path);
  /// An open one, whose descriptor (O_APPEND) becomes this object's.
  AppendFile(std::filesystem::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&&) = delete;
  ~AppendFile();

  void append(std::string_view bytes);

  /// Waits until everything is on the disk.
  void flush();

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  bool flushed_ = true;
};

}  // namespace igpt::formats
