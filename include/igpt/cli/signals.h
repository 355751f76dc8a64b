#pragma once

namespace igpt::cli {

/// From here on the first stop signal (igpt/stop_signals.h) is only remembered, for the work to end at a good moment;
/// the second ends the process at once with status 128 + its number, unless torchrun started it, which passes on what
/// Slurm has sent to all already, and knows SIGKILL. SIGHUP and SIGXCPU come again by themselves, from the shell and
/// from the kernel, and never end it. A signal that the parent set to be ignored stays ignored (nohup).
void catch_stop_signals();

/// 0, or the stop signal that has come.
int stop_signal() noexcept;

/// Throws igpt::Interrupted once a signal has come.
void throw_if_stopped();

}  // namespace igpt::cli
