#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "igpt/hooks.h"

namespace igpt::backend {

/// The device that `text` asks for: "cpu", "cuda", "cuda:N", or "auto" (CUDA device 0 if it works, else the CPU, with a
/// note why). CUDA's libraries are loaded here, when a CUDA device is asked for or a driver is found, and the
/// device is tried with a small kernel first. Of several processes on a machine each takes the CUDA device of its own
/// number, `local_rank`. `with_verdict`: this build's kernels are used if `run check` has found them right (verdict.h);
/// otherwise without asking.
///
/// LibTorch's operations get `threads` threads; 0 leaves its default (one for each core). More than usable_cores() are
/// lowered to them, with a note where they were asked for: threads that wait for each other without a processor take
/// minutes for a step.
///
/// Throws igpt::UsageError on another text, and igpt::Error, with the cause, where the CUDA device that was asked for
/// cannot be used or the system starts no more threads.
c10::Device prepare_device(const std::string& text, int64_t threads, const Hooks& hooks, int64_t local_rank = 0,
                           bool with_verdict = true);

/// Keeps what `run check` has found out about the kernels for a CUDA device (remember_verdict). Nothing on the CPU,
/// whose kernels are used without a verdict.
void remember_check(c10::Device device, const std::optional<std::string>& fault);

/// work(), with what LibTorch reports of a CUDA device as a DeviceError of one line.
void report_device_errors(const std::function<void()>& work);

}  // namespace igpt::backend
