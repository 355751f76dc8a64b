#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>

#include "igpt/formats/input_file.h"

namespace igpt::testing {

/// A file in memory that holds `content` as long as this object lives.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view content) : file_(memfd_create("input", MFD_CLOEXEC)) {
    if (!file_ || !formats::write_all(file_, std::as_bytes(std::span(content)))) std::abort();
  }

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(file_.get()); }

 private:
  formats::FileDescriptor file_;
};

/// The same, open for a reader.
inline std::shared_ptr<const formats::InputFile> memory_file(std::string_view content) {
  return std::make_shared<const formats::InputFile>(MemoryFile(content).path());
}

}  // namespace igpt::testing
