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
  std::optional<int64_t> seed;  ///< not given: drawn
  bool quiet = false;
  bool verbose = false;
  bool json = false;
};

void add_device_options(Options& options, CommonOptions& common);  ///< --device, --gpus (the original's), --threads
void add_seed_option(Options& options, CommonOptions& common);
void add_log_options(Options& options, CommonOptions& common,  ///< --quiet, --verbose
                     const std::string& verbose = "more details of the work");
void add_json_option(Options& options, CommonOptions& common);

/// Writes a line to stderr, unless --quiet.
void note(const CommonOptions& common, std::string_view line);

/// A seed from the operating system's random numbers, in [0, 2^31) so that it is easy to type again.
int64_t draw_seed();

/// The seed that was given, otherwise a drawn one.
int64_t seed_of(const CommonOptions& common);

/// The arguments without the program's name.
std::vector<std::string> arguments_of(int argc, char** argv);

/// Runs a program's body and ends the process with the status that it returns, or with that of what it throws:
/// UsageError 2, Interrupted 128 + the signal, anything else 1. Each error is reported in one line on stderr that
/// starts with `name`, which the body may make more specific. A status of 0 becomes 1 when the output could not be
/// written. Where memory runs out, `less_memory` says how to use less. Meanwhile stop signals are caught (signals.h),
/// and the program goes on when the reader of its log goes away. Leaves by _exit after flushing, which skips LibTorch's
/// slow destructors.
[[noreturn]] int run_program(const std::string& name, const std::function<int()>& body,
                             const std::string& less_memory = "close other programs");

/// The text as one line: control characters become \n, \t or \xNN.
std::string single_line(std::string_view text);

/// The versions of the toolkit, LibTorch and CUDA, one on each line.
std::string version_text();

}  // namespace igpt::cli
