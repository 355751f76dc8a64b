#pragma once

#include <memory>
#include <string>

#include "igpt/cli/program.h"
#include "igpt/cli/progress.h"
#include "igpt/hooks.h"

namespace igpt::cli {

/// Connects long-running work to the terminal: notes and progress go to stderr, stop signals (signals.h) end the work.
class Terminal {
 public:
  /// Progress is counted in `unit`s.
  Terminal(std::string unit, CommonOptions common);

  /// Valid as long as this object.
  Hooks hooks();

  /// Ends the progress line. To be called before results are printed.
  void finish() { progress_.reset(); }

 private:
  std::string unit_;
  CommonOptions common_;
  std::unique_ptr<Progress> progress_;  // from the first count on
};

}  // namespace igpt::cli
