#pragma once

namespace igpt::cli {

/// From here on the first SIGINT or SIGTERM is only remembered, for the work to end at a good moment; the second ends
/// the process at once with status 130 or 143, unless torchrun started it, which passes on what Slurm has sent to all
/// already, and knows SIGKILL. A signal that the parent set to be ignored stays ignored.
void catch_stop_signals();

/// 0, or SIGINT or SIGTERM once it has come.
int stop_signal() noexcept;

/// Throws igpt::Interrupted once a signal has come.
void throw_if_stopped();

}  // namespace igpt::cli
