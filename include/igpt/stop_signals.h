#pragma once

#include <signal.h>

#include <array>
#include <string>

namespace igpt {

/// A signal that asks a program to stop.
struct StopSignal {
  int number;
  const char* name;
};

/// All of them: what people send, what a closed terminal sends, and what batch systems send before a limit. Where
/// several processes stop for different ones, the first in this list counts for all.
inline constexpr std::array kStopSignals{StopSignal{SIGTERM, "SIGTERM"}, StopSignal{SIGINT, "SIGINT"},
                                         StopSignal{SIGHUP, "SIGHUP"},   StopSignal{SIGUSR1, "SIGUSR1"},
                                         StopSignal{SIGUSR2, "SIGUSR2"}, StopSignal{SIGXCPU, "SIGXCPU"}};

/// "SIGTERM".
inline std::string name_of_signal(int number) {
  for (const auto& signal : kStopSignals)
    if (signal.number == number) return signal.name;
  return "signal " + std::to_string(number);
}

}  // namespace igpt
