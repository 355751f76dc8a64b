#pragma once

#include <string>
#include <string_view>

namespace igpt::formats {

/// "module.name", with modules that moved or were renamed under the one name that this library knows: "builtins.set"
/// for Python 2's "__builtin__.set", "torch.FloatStorage" for "torch.storage.FloatStorage".
std::string canonical_global(std::string_view module, std::string_view name);

/// Whether only an attack names this global in a checkpoint: one that runs commands, opens files or loads other code.
bool runs_code(std::string_view global);

}  // namespace igpt::formats
