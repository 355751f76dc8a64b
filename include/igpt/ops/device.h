#pragma once

#include <c10/core/Device.h>

#include <string>

#include "igpt/hooks.h"

namespace igpt::ops {

/// The device that `text` asks for: "cpu", "cuda", "cuda:N", or "auto" (the first CUDA device that works, else the
/// CPU). CUDA's libraries are loaded here, when a CUDA device is asked for or a driver is found, and the device is
/// tried with a small kernel first. Throws igpt::UsageError on another text and igpt::Error, with the cause, where the
/// CUDA device that was asked for cannot be used. With "auto" such a cause goes to `why_not_cuda` instead; empty
/// without a driver.
/// Of several processes on a machine each takes the CUDA device of its own number, `local_rank`.
c10::Device choose_device(const std::string& text, std::string* why_not_cuda = nullptr, int64_t local_rank = 0);

/// The processors that this process may use, at least 1: those of its affinity mask, and no more than its control
/// groups' quota of time (docker run --cpus) is worth.
int64_t usable_cores();

/// The same for a command, which tells why "auto" became the CPU, and what it computes on. LibTorch's operations get
/// `threads` threads; 0 leaves its default (one for each core). More than usable_cores() are lowered to them, with a
/// note where they were asked for: threads that wait for each other without a processor take minutes for a step. Throws
/// igpt::Error where the system starts no more threads.
c10::Device prepare_device(const std::string& text, int64_t threads, const Hooks& hooks, int64_t local_rank = 0);

/// Bytes of the device's memory that are free, or of the machine's on the CPU; 0 if unknown.
int64_t available_memory(c10::Device device);

/// The same, and on the CPU swap too, within what the user allows this process: more cannot be had. 0 if unknown.
int64_t most_memory(c10::Device device);

/// "CUDA 13.0" as built, or "no CUDA".
std::string cuda_build();

}  // namespace igpt::ops
