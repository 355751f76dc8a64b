#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "igpt/distributed.h"
#include "igpt/error.h"
#include "igpt/libtorch.h"

namespace igpt::training {

/// Other processes of the group have ended or do not answer.
class RanksLost : public Error {
 public:
  using Error::Error;
};

/// The processes that train one model together, each with a device of its own: c10d's group, over NCCL on CUDA and over
/// Gloo on the CPU. Every rank makes the same calls in the same order; each returns when all have made it, or throws
/// RanksLost when a rank has died or kept the others waiting for longer than DistributedContext::timeout. One process
/// alone is a group too, in which nothing happens.
class ProcessGroup {
 public:
  /// Waits for the other ranks. Until all are connected, `waiting` is called now and then; what it throws ends the
  /// wait. Rank 0 notes which ranks are missing after a second. Throws igpt::Error, naming the missing ranks, when they
  /// do not all connect in time.
  ProcessGroup(const DistributedContext& launch, c10::Device device, const std::function<void()>& waiting,
               const std::function<void(const std::string&)>& note = {});
  ~ProcessGroup();

  int64_t rank() const { return launch_.rank; }
  int64_t size() const { return launch_.size; }
  bool alone() const { return launch_.size == 1; }
  bool is_first() const { return launch_.rank == 0; }

  std::pair<int64_t, int64_t> share(int64_t count) const { return launch_.share(count); }

  /// `values`, on the group's device and dense, becomes the sum over all ranks: the same bits on each.
  void sum(torch::Tensor values);
  std::vector<double> sum(const std::vector<double>& values);
  /// Each rank's value, by rank.
  std::vector<int64_t> gather(int64_t value);
  /// Those whose value is not rank 0's, in words ("rank 1, 3"); empty: none.
  std::string ranks_unlike_first(int64_t value);
  /// Rank 0's values on every rank.
  void copy_from_first(torch::Tensor values);
  std::string from_first(const std::string& text);
  void wait_for_all() { gather(0); }

  /// Throws RanksLost when something went wrong in a reduction that CUDA was still working on.
  void check();

 private:
  struct Connection;

  DistributedContext launch_;
  c10::Device device_;
  std::unique_ptr<Connection> connection_;  // none when alone
};

/// A number that depends on every bit of the tensors (integers or float32) and its place; the same on every device.
int64_t fingerprint(const std::vector<torch::Tensor>& tensors);

}  // namespace igpt::training
