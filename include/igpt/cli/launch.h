#pragma once

#include <functional>

#include "igpt/distributed.h"

namespace igpt::cli {

/// Returns the value of an environment variable; null when it is not set.
using Environment = std::function<const char*(const char* name)>;

/// Reads the variables of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT,
/// TORCHELASTIC_*), which other launchers set too. Where they are not set, it reads those of a Slurm job step
/// (SLURM_PROCID, SLURM_LOCALID, SLURM_STEP_NUM_TASKS or SLURM_NTASKS, SLURM_STEP_NODELIST or SLURM_JOB_NODELIST);
/// MASTER_ADDR and MASTER_PORT take precedence over the first node of the list and over a port derived from the job's
/// number. With neither there is one process. Throws igpt::UsageError that names the variable when variables contradict
/// each other.
DistributedContext read_launch(const Environment& environment);

/// The same from this process's environment.
DistributedContext read_launch();

/// The first machine of a Slurm node list: node03 of "node[03-05,9],login1".
std::string first_node(const std::string& list);

}  // namespace igpt::cli
