#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "src/ops/cpu/layout.h"

namespace igpt::ops::cpu {

/// Sum of the groups' gradients by a binary tree over the groups' numbers: whoever brings the second of two siblings
/// adds them, so that the result depends on the number of groups alone, not on which thread computed what and when.
/// Few sums wait for their sibling at a time, and their memory is used again.
class OrderedSum {
 public:
  /// Makes room for `ready` sums; more are made when threads overtake each other by far.
  OrderedSum(const Layout& layout, int ready);

  void start(int groups);

  std::unique_ptr<Gradients> take();  ///< cleared
  void put(int group, std::unique_ptr<Gradients> gradients);

  /// After all groups have been put: adds their sum to the flat buffer.
  void finish(const float* weights, float* gradients);

 private:
  const Layout& layout_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Gradients>> free_;
  std::vector<std::vector<std::unique_ptr<Gradients>>> waiting_;  // [level][pair]
  std::vector<int> nodes_;                                        // of each level
};

}  // namespace igpt::ops::cpu
