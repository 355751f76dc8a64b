#pragma once

#include <filesystem>
#include <string>

#include "igpt/distributed.h"
#include "igpt/hooks.h"
#include "igpt/training/process_group.h"
#include "igpt/training/train_options.h"

namespace igpt::training {

/// Which run a launcher's job trains, so that the job, started again by its launcher (torchrun --max-restarts, Slurm's
/// requeue), goes on with that run instead of beginning another. Kept in log_dir/NAME/.job; rank 0's business.
class JobRecord {
 public:
  /// What an earlier job left there is removed.
  JobRecord(const DistributedContext& launch, const std::filesystem::path& runs);

  /// The run's folder, when this job was at it before; else empty.
  const std::filesystem::path& run() const { return run_; }

  void remember(const std::filesystem::path& run) const;

 private:
  DistributedContext launch_;
  std::filesystem::path file_, run_;
};

/// That of the run's folder: it lies beside it. A resumed run's folder is where its checkpoint lies, whatever that says
/// of itself.
JobRecord job_record(const TrainOptions& options);

/// A job that its launcher started again goes on with the run that it was at, from its last checkpoint if there is one:
/// options.resume becomes that file, and the seed that of the run. Returns the run's folder; empty for another job.
std::filesystem::path continue_restarted_run(TrainOptions& options, ProcessGroup& group, const Hooks& hooks);

}  // namespace igpt::training
