#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "igpt/error.h"
#include "memory_file.h"

/// Called with each input by libFuzzer, or by driver.cc where there is no libFuzzer. Each target is one file that
/// defines it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace igpt::fuzz {

/// The promise for bytes from strangers: `work` succeeds or throws igpt::Error with one line. Another exception leaves
/// this function, which counts as a crash.
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

}  // namespace igpt::fuzz
