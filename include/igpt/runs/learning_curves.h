#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "igpt/hooks.h"

namespace igpt::runs {

struct CurvesOptions {
  std::vector<std::string> runs;  ///< as find_run takes them
  std::filesystem::path log_dir = "logs";
  std::string output = "curves.png";  ///< or .svg
  std::string x = "step";             ///< or images
  std::string metric = "both";        ///< loss, acc, or both where a run has them
  bool log_y = false;                 ///< of the losses
  std::optional<double> y_min, y_max;
  int64_t width = 900, height = 500;  ///< pixels
};

/// Draws the losses of runs, training thin and validation thick, and beside them the accuracies of classifiers. A run
/// that has no losses yet is left out with a note. Returns the names of the runs in the legend. Throws igpt::UsageError
/// for options that cannot be, igpt::InputError for a run that is not there, or where no run has anything to show, and
/// igpt::Error where the picture cannot be written.
std::vector<std::string> plot_runs(const CurvesOptions& options, const Hooks& hooks = {});

}  // namespace igpt::runs
