#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <thread>

#include "process.h"

namespace igpt::testing {

/// `program` ended with `status`, printed nothing, and said one line that contains `message` and no C++ names.
inline void expect_refusal(const Ending& ending, const std::string& program, int status, const std::string& message) {
  EXPECT_EQ(ending.exit_code, status) << ending.err;
  EXPECT_EQ(ending.out, "");
  EXPECT_THAT(ending.err, ::testing::StartsWith(program + ": "));
  EXPECT_THAT(ending.err, ::testing::HasSubstr(message));
  EXPECT_EQ(ending.err.find('\n'), ending.err.size() - 1) << ending.err;
  for (const char* leaked : {"c10", "std::", "basic_", "what()", "Exception", "frame #"})
    EXPECT_THAT(ending.err, ::testing::Not(::testing::HasSubstr(leaked)));
}

/// Waits until the program has a handler for `signal` (SigCgt in /proc/PID/status), at most 20 s.
inline void wait_until_caught(Process& process, int signal) {
  for (int attempt = 0; attempt < 10000 && process.running(); ++attempt) {
    std::ifstream status("/proc/" + std::to_string(process.pid()) + "/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("SigCgt:") && std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace igpt::testing
