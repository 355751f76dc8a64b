#include "igpt/cli/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "igpt/error.h"
#include "igpt/stop_signals.h"

namespace igpt::cli {
namespace {

std::atomic<int> stop{0};
std::atomic<bool> passed_on{false};  // a launcher sends signals that may also arrive directly
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void remember_stop(int signal_number) {
  int none = 0;
  const bool first = stop.compare_exchange_strong(none, signal_number);
  const bool repeats_itself = signal_number == SIGHUP || signal_number == SIGXCPU;
  if (!first && !passed_on && !repeats_itself) ::_exit(128 + signal_number);
}

}  // namespace

void catch_stop_signals() {
  passed_on = std::getenv("TORCHELASTIC_RUN_ID") != nullptr;
  for (const auto& [signal_number, name] : kStopSignals) {
    struct sigaction previous {};
    ::sigaction(signal_number, nullptr, &previous);
    if (previous.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = remember_stop;
    action.sa_flags = SA_RESTART;
    ::sigaction(signal_number, &action, nullptr);
  }
}

int stop_signal() noexcept {
  return stop.load(std::memory_order_relaxed);
}

void throw_if_stopped() {
  if (const int signal_number = stop_signal()) throw Interrupted(signal_number);
}

}  // namespace igpt::cli
