#include "src/ops/cpu/ordered_sum.h"

#include <utility>

namespace igpt::ops::cpu {

OrderedSum::OrderedSum(const Layout& layout, int ready) : layout_(layout) {
  for (int i = 0; i < ready; ++i) free_.push_back(std::make_unique<Gradients>(layout_));
}

void OrderedSum::start(int groups) {
  nodes_.assign(1, groups);
  while (nodes_.back() > 1) nodes_.push_back((nodes_.back() + 1) / 2);
  waiting_.resize(nodes_.size());
  for (size_t level = 0; level < nodes_.size(); ++level)
    waiting_[level].resize(static_cast<size_t>(nodes_[level] + 1) / 2);
}

std::unique_ptr<Gradients> OrderedSum::take() {
  std::unique_ptr<Gradients> gradients;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      gradients = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (!gradients) return std::make_unique<Gradients>(layout_);
  gradients->clear();
  return gradients;
}

void OrderedSum::put(int group, std::unique_ptr<Gradients> gradients) {
  for (size_t level = 0; level < nodes_.size(); ++level, group /= 2) {
    if ((group ^ 1) >= nodes_[level] && nodes_[level] > 1) continue;  // no sibling
    std::unique_ptr<Gradients> sibling;
    {
      const std::lock_guard lock(mutex_);
      auto& place = waiting_[level][static_cast<size_t>(group / 2)];
      if (!place) {
        place = std::move(gradients);
        return;
      }
      sibling = std::move(place);
    }
    gradients->add(*sibling);  // a + b is b + a, so it does not matter who came first
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(sibling));
  }
}

void OrderedSum::finish(const float* weights, float* gradients) {
  auto& root = waiting_.at(nodes_.size() - 1).at(0);
  root->add_to(weights, gradients);
  free_.push_back(std::move(root));
}

}  // namespace igpt::ops::cpu
