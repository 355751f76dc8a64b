#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "igpt/hooks.h"

namespace igpt::backend {

/// What the verdict on a device's kernels depends on, in one line: GPU, driver and build.
using DeviceIdentity = std::string;

/// Why the kernels of this build must not be used on a device; empty: they may. That is what remember_verdict() has
/// kept in `folder` for the same identity. Where there is nothing yet, `check_command` is started: `run check` for the
/// device in a process of its own, which keeps its verdict and exits with 0 if the kernels are right. Where the check
/// ends without a verdict (a kernel could not run, it was killed, or it takes longer than `patience`) the kernels are
/// not used, and the next program checks again. Throws igpt::Interrupted on a stop signal.
std::string verdict(const DeviceIdentity& identity, const std::filesystem::path& folder,
                    const std::vector<std::string>& check_command, const Hooks& hooks,
                    std::chrono::seconds patience = std::chrono::seconds(300));

/// Keeps a verdict in `folder`, in place of an earlier one; where nothing can be written, or `folder` is empty,
/// verdict() checks again. `fault`: why the kernels must not be used, in one line; empty: they are right. Without a
/// value the check could not be completed, and an earlier verdict is removed.
void remember_verdict(const DeviceIdentity& identity, const std::filesystem::path& folder,
                      const std::optional<std::string>& fault);

/// $XDG_CACHE_HOME/igpt or ~/.cache/igpt; empty where neither variable is set.
std::filesystem::path cache_folder();

}  // namespace igpt::backend
