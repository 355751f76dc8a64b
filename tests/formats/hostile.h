#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <string>

#include "igpt/error.h"
#include "sanitized.h"

namespace igpt::formats {

template <class T>
std::string little_endian(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
}

inline std::string repeated(std::string_view text, size_t count) {
  std::string result;
  result.reserve(text.size() * count);
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

/// The message of the InputError that `work` throws; a failure if it throws none, or one that is not a single line.
template <class Work>
std::string refusal(Work work) {
  try {
    work();
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LT(message.size(), 400u) << message;
    return message;
  }
  ADD_FAILURE() << "was accepted";
  return "";
}

/// Kilobytes of a field of /proc/self/status.
inline uint64_t memory_field(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::stoull(line.substr(field.size() + 1));
  return 0;
}

/// Checks the promise for bytes from strangers: within 2 s, and at most `allowed` bytes of memory more than before.
template <class Work>
void expect_modest(uint64_t allowed, Work work) {
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts anew
  const uint64_t before = memory_field("VmRSS");
  const auto start = std::chrono::steady_clock::now();
  work();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const uint64_t peak = memory_field("VmHWM");
  if (sanitized) return;
  EXPECT_LT(seconds, 2.0);
  EXPECT_LT(peak, before + allowed / 1024) << "KiB, from " << before;
}

}  // namespace igpt::formats
