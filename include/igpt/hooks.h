#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "igpt/error.h"

namespace igpt {

/// Callbacks by which long-running work reports progress and is cancelled. Each may be empty.
struct Hooks {
  std::function<int()> stop_signal;                     ///< 0, or the signal to stop for
  std::function<void(const std::string& line)> note;    ///< receives a line for the log
  std::function<void(const std::string& line)> detail;  ///< receives a line that is shown with --verbose only
  std::function<void(int64_t total, int64_t done, const std::string& note)> progress;
};

/// Throws igpt::Interrupted when a stop signal has arrived.
inline void throw_if_stopped(const Hooks& hooks) {
  if (const int signal = hooks.stop_signal ? hooks.stop_signal() : 0) throw Interrupted(signal);
}

}  // namespace igpt
