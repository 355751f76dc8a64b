#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace igpt::training {

/// What a launcher (torchrun, or Slurm's srun) tells a process about those that it started to train one model together.
struct Launch {
  int64_t rank = 0, size = 1;              ///< this process's number, and how many there are
  int64_t local_rank = 0, local_size = 1;  ///< the same among those on this machine; local_size 1 where it is not told
  std::string address = "localhost";       ///< where they meet
  int64_t port = 0;
  bool one_machine = false;  ///< all of them are on this one
  bool store_is_up = false;  ///< at that address, by the launcher; else rank 0 puts it up
  std::string job;           ///< what the processes of a job and of its restarts have in common; empty: not known
  std::string launcher;      ///< the one process that starts them again; empty: not known
  int64_t restarts = 0;      ///< how often the job has been started again
  std::string alone;         ///< what to type for one process alone; empty: not known
  int64_t timeout = 600;     ///< seconds that they wait for each other

  /// This process's part of `count` things in a row: [begin, end). The parts differ by at most one.
  std::pair<int64_t, int64_t> share(int64_t count) const { return {count * rank / size, count * (rank + 1) / size}; }
};

}  // namespace igpt::training
