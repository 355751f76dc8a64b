#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "igpt/libtorch.h"
#include "igpt/training/flat_optimizer.h"
#include "igpt/training/process_group.h"

namespace igpt::training {

/// How the ranks of a training stay in step: the reduction of each update, and the decision when to stop, which all
/// make at the same place. Every rank makes the same calls in the same order. In a process that trains alone only its
/// own stop signal counts.
class Agreement {
 public:
  /// `stop_signal` as Hooks has it; `step` updates are done.
  Agreement(ProcessGroup& group, std::function<int()> stop_signal, c10::Device device, int64_t step);

  /// The optimizer's gradients, and `loss` (float64 scalar), become their sums over all ranks. With them travels which
  /// signals the ranks got.
  void sum(const FlatOptimizer& optimizer, torch::Tensor loss, int64_t step);

  int own_stop_signal();      ///< The signal that this process got, from then on; 0: none.
  void look_whether_alone();  ///< After an update: a process that trains alone stops for its own signal.
  void agree_on_stop();       ///< All ranks stop for a signal that any of them got.
  int stop_signal() const { return signal_; }  ///< what all stop for; 0: they go on

 private:
  ProcessGroup& group_;
  std::function<int()> hook_;
  const c10::Device device_;
  int own_signal_ = 0, signal_ = 0;
  int64_t next_look_ = 0;  // update after which all look whether to stop
  int64_t last_look_;
  std::chrono::steady_clock::time_point last_look_time_ = std::chrono::steady_clock::now();
};

}  // namespace igpt::training
