#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "igpt/error.h"

namespace igpt {

/// How long work is told and stopped. Each may be empty.
struct Hooks {
  std::function<int()> stop_signal;                     ///< 0, or the signal to stop for
  std::function<void(const std::string& line)> note;    ///< a line for the log
  std::function<void(const std::string& line)> detail;  ///< what only some want to know
  std::function<void(int64_t total, int64_t done, const std::string& note)> progress;
};

/// Throws igpt::Interrupted when the work shall stop.
inline void throw_if_stopped(const Hooks& hooks) {
  if (const int signal = hooks.stop_signal ? hooks.stop_signal() : 0) throw Interrupted(signal);
}

}  // namespace igpt
