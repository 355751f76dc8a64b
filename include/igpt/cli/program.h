#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "igpt/cli/options.h"

namespace igpt::cli {

/// Options that several programs have. Each adds those that mean something to it. None is a setting of a run.
struct CommonOptions {
  std::string device = "auto";  ///< auto, cpu, cuda or cuda:N
  int64_t threads = 0;          ///< 0: all cores
  std::optional<int64_t> seed;  ///< drawn when not given
  bool quiet = false;
  bool verbose = false;
  bool json = false;
};

void add_device_options(Options& options, CommonOptions& common);  ///< --device, --gpus (the original's), --threads
void add_seed_option(Options& options, CommonOptions& common);
void add_log_options(Options& options, CommonOptions& common);  ///< --quiet, --verbose
void add_json_option(Options& options, CommonOptions& common);

/// A line on stderr, unless --quiet.
void note(const CommonOptions& common, std::string_view line);

/// A seed from the operating system's random numbers, in [0, 2^31) so that it is easily typed again.
int64_t draw_seed();

/// The seed that was given, or a drawn one.
int64_t seed_of(const CommonOptions& common);

/// Argument list without the program's name.
std::vector<std::string> arguments_of(int argc, char** argv);

/// Runs a program's body (which may make `name`, told before each error, more exact) and ends the process with its
/// status, or the status of what it threw: UsageError 2, Interrupted 128 + the signal, anything else 1, each told in
/// one line on stderr; output that could not be written makes 1 of 0. Where memory ran out, `less_memory` says what
/// takes less. Stop signals are caught meanwhile (signals.h), and a reader of the log that goes away ends nothing.
/// Leaves by _exit after flushing, which skips LibTorch's slow destructors.
[[noreturn]] int run_program(const std::string& name, const std::function<int()>& body,
                             const std::string& less_memory = "close other programs");

/// One line without control characters: they become \n, \t or \xNN.
std::string single_line(std::string_view text);

/// The versions of the toolkit, LibTorch and CUDA, a line each.
std::string version_text();

}  // namespace igpt::cli
