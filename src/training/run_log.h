#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/formats/events.h"
#include "igpt/hooks.h"
#include "igpt/runs/run_state.h"
#include "igpt/training/process_group.h"
#include "igpt/training/run_folder.h"
#include "igpt/training/train_options.h"
#include "src/training/async_scalar.h"

namespace igpt::training {

/// What a training writes and reports: metrics.csv, TensorBoard events and checkpoints in the run's folder, and lines
/// for the user. Rank 0 writes; the other ranks know the folder's paths, and their hooks are empty.
class RunLog {
 public:
  /// Creates the run's folder, or opens that of the run that goes on: options.resume's, or `restarted` where a launcher
  /// has started the job again. `step` updates are done. A run that does not go on, as it is finished, keeps its
  /// settings and gets no further file of events.
  RunLog(const TrainOptions& options, const std::filesystem::path& restarted, int64_t step, bool goes_on,
         const Hooks& hooks, ProcessGroup& group);

  const RunFolder& folder() const { return *folder_; }

  void training(const Metrics& metrics);  ///< train_loss and learning_rate
  void validation(const Metrics& metrics, const std::optional<formats::Image>& samples);
  void validated(const Metrics& metrics, bool is_best) const;  ///< reports the validation to the user
  void save_best(const Checkpoint& checkpoint);
  /// Keeps the `checkpoint` of `step`, which is made only then, as step_N.ckpt where it is among the options.save_top_k
  /// best so far, and removes the others. One is best.ckpt alone.
  void save_among_best(int64_t step, const TrainOptions& options, const std::function<Checkpoint()>& checkpoint);
  void save_last(const Checkpoint& checkpoint);

  /// Leaves in the folder how the training ended, for `run list`.
  void ended(runs::State state, int64_t step, const std::string& reason) const noexcept;

  /// "; to go on: run train --resume .../last.ckpt", where there is such a file.
  std::string how_to_go_on() const;

 private:
  Hooks hooks_;
  const bool writes_;
  std::optional<RunFolder> folder_;
  std::unique_ptr<formats::EventWriter> events_;
};

/// The training loss between two rows of metrics.csv, summed on the device. A row begins at a step; finish() reads the
/// sum later, while the device works on the next updates.
class LossRows {
 public:
  explicit LossRows(c10::Device device);

  struct Row {
    int64_t step, batches;
    double sum;  ///< over the batches
  };

  void add(int64_t batches) { count_ += batches; }  ///< The update has added their losses to sum().
  void begin(int64_t step);
  std::optional<Row> finish();

  const torch::Tensor& sum() const { return sum_; }  ///< float64 scalar on the device: since the last row began
  int64_t count() const { return count_; }           ///< batches in it
  void restore(double sum, int64_t count);

 private:
  struct Begun {
    int64_t step, batches;
    AsyncScalar sum;
  };

  torch::Tensor sum_;
  int64_t count_ = 0;
  std::optional<Begun> begun_;
};

}  // namespace igpt::training
