#pragma once

#include <filesystem>
#include <string>

#include "igpt/distributed.h"

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

}  // namespace igpt::training
