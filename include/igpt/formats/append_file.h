#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

#include "igpt/formats/file_descriptor.h"

namespace igpt::formats {

/// A file that grows by whole pieces while others read it. Each piece has been handed to the kernel when append
/// returns, so that a killed program loses none; one that does not fit on the disk leaves nothing of itself. Every call
/// throws igpt::Error that names the file and the cause.
class AppendFile {
 public:
  /// A file that exists.
  explicit AppendFile(std::filesystem::path path);
  /// One that was opened with O_APPEND.
  AppendFile(std::filesystem::path path, FileDescriptor file) : path_(std::move(path)), file_(std::move(file)) {}

  void append(std::string_view bytes);
  void clear();
  uint64_t size() const;  ///< bytes

  /// Waits until everything is on the disk.
  void flush();

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
  bool flushed_ = true;
};

}  // namespace igpt::formats
