#pragma once

#include <memory>
#include <string>

#include "igpt/cli/program.h"
#include "igpt/cli/progress.h"
#include "igpt/hooks.h"

namespace igpt::cli {

/// Long work on a terminal: notes and progress on stderr, ended by stop signals (signals.h).
class Terminal {
 public:
  /// Progress is counted in `unit`s.
  Terminal(std::string unit, CommonOptions common);

  /// Valid as long as the terminal.
  Hooks hooks();

  /// Leaves the progress line. Call before results are printed.
  void finish() { progress_.reset(); }

 private:
  std::string unit_;
  CommonOptions common_;
  std::unique_ptr<Progress> progress_;  // from the first count on
};

}  // namespace igpt::cli
