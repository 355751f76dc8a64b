#include "igpt/cli/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include "igpt/error.h"
#include "igpt/stop_signals.h"

namespace igpt::cli {
namespace {

std::atomic<int> stop{0};
std::atomic<bool> passed_on{false};  // a launcher sends signals that may also arrive directly
static_assert(std::atomic<int>::is_always_lock_free);

constexpr unsigned kPatience = 2;  // seconds
std::string patience_asked;        // the line that asks for it

extern "C" void ask_for_patience(int) {
  (void)!::write(STDERR_FILENO, patience_asked.data(), patience_asked.size());
}

extern "C" void remember_stop(int signal_number) {
  int none = 0;
  const bool first = stop.compare_exchange_strong(none, signal_number);
  const bool repeats_itself = signal_number == SIGHUP || signal_number == SIGXCPU;
  if (passed_on || repeats_itself) return;
  if (!first) ::_exit(128 + signal_number);
  ::alarm(kPatience);
}

}  // namespace

void catch_stop_signals(const std::string& program) {
  patience_asked =
      program + ": stopping after the current step; the same signal again (Ctrl-C) ends at once and saves nothing\n";
  struct sigaction asking {};
  asking.sa_handler = ask_for_patience;
  asking.sa_flags = SA_RESTART;
  ::sigaction(SIGALRM, &asking, nullptr);
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
