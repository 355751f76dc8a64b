#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "igpt/runs/run_state.h"

namespace igpt::runs {

/// The settings of a run that its curves and its place in a list need, from its hparams.yaml.
struct RunSettings {
  std::optional<int64_t> steps;
  int64_t batch_size = 0, accumulate = 1;  ///< batch_size 0: not known
  bool classify = false;
};

/// What hparams.yaml in `run` says of them, as far as it can be read.
RunSettings read_settings(const std::filesystem::path& run);

/// What a run's folder tells without its checkpoints.
struct RunInfo {
  std::filesystem::path folder;
  std::string name;
  int64_t version = 0;
  State state = State::stopped;
  std::string reason;  ///< of a stop or failure; empty: not known
  std::optional<int64_t> step, steps;
  bool classify = false;
  std::optional<int64_t> best_step;
  double best_score = 0;  ///< with best_step: val_loss, or val_acc of a classifier
  double age = 0;         ///< seconds since anything of it was written
};

/// Reads a folder in any state: half-written, of an older version, being trained. A run is `training` while its folder
/// is locked; if it says so of itself and the lock is free, it was killed and has `failed`.
RunInfo describe_run(const std::filesystem::path& folder);

/// The runs LOG_DIR/NAME/version_N, the one that was written last first. Throws igpt::Error when `log_dir` cannot be
/// read; a folder of a run that cannot be read is told to `note`.
std::vector<RunInfo> list_runs(const std::filesystem::path& log_dir,
                               const std::function<void(const std::string&)>& note = {});

/// The folders in `folder`, or what lies behind links to such. Throws igpt::Error where it cannot be read; with
/// `may_be_missing`, one that is not there holds none.
std::vector<std::filesystem::path> folders_in(const std::filesystem::path& folder, bool may_be_missing = false);

/// N of a folder version_N.
std::optional<int64_t> version_of(const std::filesystem::path& folder);

/// Where the losses of a run lie.
struct FoundRun {
  std::string label;              ///< NAME/version_N, or the name of a file without its ending
  std::filesystem::path metrics;  ///< a file
  RunSettings settings;
  bool has_settings = false;  ///< whether there is an hparams.yaml beside it
};

/// `run` is a run's folder, its metrics.csv or another file of that kind, or NAME/version_N or NAME (its newest
/// version) in `log_dir`. Throws igpt::InputError where it is none of them.
FoundRun find_run(const std::string& run, const std::filesystem::path& log_dir);

}  // namespace igpt::runs
