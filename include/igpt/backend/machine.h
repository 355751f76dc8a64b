#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace igpt::backend {

/// The processors that this process may use, at least 1: those of its affinity mask, and no more than its control
/// groups' quota of time (docker run --cpus) is worth.
int64_t usable_cores();

/// Starts `count` threads, this one among them, and ends them again: libgomp ends the process where it cannot start its
/// own. Throws igpt::Error that says how many can be started, and why not more.
void expect_threads(int64_t count);

/// Bytes of the device's memory that are free, or of the machine's on the CPU; 0 if unknown.
int64_t available_memory(c10::Device device);

/// The same, and on the CPU swap too, within what the user allows this process: more cannot be had. 0 if unknown.
int64_t most_memory(c10::Device device);

}  // namespace igpt::backend
