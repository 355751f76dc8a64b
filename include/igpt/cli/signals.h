#pragma once

#include <string>

namespace igpt::cli {

/// From this call on the first stop signal (igpt/stop_signals.h) is only remembered, so that the work can end at a good
/// moment; where that takes more than two seconds, a line on stderr says so. The second ends the process at once with
/// status 128 + its number. There are two exceptions: under torchrun, which forwards signals that Slurm has sent to
/// every process already (and uses SIGKILL to insist), and for SIGHUP and SIGXCPU, which the shell and the kernel
/// repeat. A signal that the parent ignores stays ignored (nohup).
void catch_stop_signals(const std::string& program);

/// The stop signal that has arrived; 0 for none.
int stop_signal() noexcept;

/// Throws igpt::Interrupted once a stop signal has arrived.
void throw_if_stopped();

}  // namespace igpt::cli
