#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "igpt/error.h"

/// What libFuzzer calls with each input, and driver.cc where there is no libFuzzer. One target is one file that defines
/// it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace igpt::fuzz {

/// The promise for bytes from strangers: `work` succeeds or throws igpt::Error with one line. Another exception leaves
/// this function, which the fuzzer takes for a crash.
template <class Work>
void succeeds_or_refuses(Work work) {
  try {
    work();
  } catch (const Error& error) {
    const std::string_view message = error.what();
    if (!message.empty() && message.size() < 1000 && message.find('\n') == message.npos) return;
    std::fprintf(stderr, "not one short line: %s\n", error.what());
    std::abort();
  }
}

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// A file in memory that holds `content` as long as this object lives.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view content) : descriptor_(memfd_create("input", MFD_CLOEXEC)) {
    if (descriptor_ < 0 || ::write(descriptor_, content.data(), content.size()) != std::ssize(content)) std::abort();
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace igpt::fuzz
