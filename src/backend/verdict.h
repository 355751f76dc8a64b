#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "igpt/hooks.h"

namespace igpt::backend {

/// What the verdict on a device's kernels depends on, in one line: GPU, driver and build.
using DeviceIdentity = std::string;

/// Why the kernels of this build must not be used on a device; empty: they may. That is what `check_command`, `run
/// check` for the device in a process of its own, finds out the first time: it exits with 0, or with 1 and a line for
/// each comparison that failed. The verdict is remembered in `folder` for the same identity. Where the check could not
/// be made (it ran out of memory, was killed, or takes longer than `patience`) the kernels are not used, and the next
/// program checks again. Throws igpt::Interrupted on a stop signal.
std::string verdict(const DeviceIdentity& identity, const std::filesystem::path& folder,
                    const std::vector<std::string>& check_command, const Hooks& hooks,
                    std::chrono::seconds patience = std::chrono::seconds(300));

/// $XDG_CACHE_HOME/igpt or ~/.cache/igpt; empty where neither variable is set.
std::filesystem::path cache_folder();

}  // namespace igpt::backend
