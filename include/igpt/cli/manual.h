#pragma once

#include <string>
#include <vector>

#include "igpt/cli/options.h"

namespace igpt::cli {

/// A text about a program that follows from the declaration of its options. `kind` is "bash", "zsh" or "fish": the
/// completion of its command line in this shell, to be sourced or installed where the shell looks for it; or "man": its
/// page of the manual, in roff. `commands` are its subcommands ("run train"), or the program itself alone. Throws
/// UsageError for another kind.
std::string generated_text(const std::string& kind, const std::string& program,
                           const std::vector<Declaration>& commands);

/// Whether the arguments are `--generate KIND`.
bool asks_to_generate(const std::vector<std::string>& arguments);

}  // namespace igpt::cli
