#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace igpt {

/// What a launcher (torchrun, or Slurm's srun) tells a process about the processes that it started to train one model
/// together.
struct DistributedContext {
  int64_t rank = 0, size = 1;              ///< this process's number, and how many there are
  int64_t local_rank = 0, local_size = 1;  ///< the same on this machine; local_size is 1 where it is not known
  std::string address = "localhost";       ///< where the processes meet
  int64_t port = 0;
  bool one_machine = false;  ///< all processes are on this machine
  bool store_is_up = false;  ///< the launcher runs the store at that address; otherwise rank 0 starts it
  std::string job;           ///< the same for all processes of a job and after its restarts; empty: not known
  std::string launcher;      ///< identifies the process that restarts them; empty: not known
  int64_t restarts = 0;      ///< how often the job has been restarted
  std::string alone;         ///< the command after which a process runs alone; empty: not known
  int64_t timeout = 600;     ///< seconds that the processes wait for each other

  /// This process's part of `count` consecutive items: [begin, end). The parts differ by at most one item.
  std::pair<int64_t, int64_t> share(int64_t count) const { return {count * rank / size, count * (rank + 1) / size}; }
};

}  // namespace igpt
