#include "src/training/agreement.h"

#include <algorithm>
#include <span>

#include "igpt/stop_signals.h"

namespace igpt::training {
namespace {

constexpr int64_t kMostUpdatesUnseen = 50;  // between two looks

// Which of kStopSignals a process got, as numbers that ranks add up.
std::vector<double> as_counts(int stop_signal) {
  std::vector<double> counts;
  for (const auto& [number, name] : kStopSignals) counts.push_back(number == stop_signal ? 1 : 0);
  return counts;
}

// The signal that all stop for, from how many got each.
int stop_signal_of(std::span<const double> counts) {
  for (size_t i = 0; i < kStopSignals.size(); ++i)
    if (counts[i] > 0) return kStopSignals[i].number;
  return 0;
}

}  // namespace

Agreement::Agreement(ProcessGroup& group, std::function<int()> stop_signal, c10::Device device, int64_t step)
    : group_(group), hook_(std::move(stop_signal)), device_(device), last_look_(step) {}

// One reduction: of the gradients, and behind them the loss, how many updates later all look at the signals again, and
// who got which. They look after every update on the CPU; on CUDA, where reading waits for the device, about once a
// second.
void Agreement::sum(const FlatOptimizer& optimizer, torch::Tensor loss, int64_t step) {
  using std::chrono::steady_clock;
  double interval = 1;
  if (device_.is_cuda() && step > last_look_) {
    const std::chrono::duration<double> since = steady_clock::now() - last_look_time_;
    interval = std::clamp(static_cast<double>(step - last_look_) / since.count(), 1.0, double{kMostUpdatesUnseen});
  }
  auto message = optimizer.message();  // loss, interval, counts of stop signals
  static_assert(FlatOptimizer::kMessage == 2 + kStopSignals.size());
  auto words = as_counts(own_stop_signal());
  words.insert(words.begin(), group_.is_first() ? interval : 0);
  message[0].copy_(loss);
  message.narrow(0, 1, FlatOptimizer::kMessage - 1).copy_(torch::tensor(words, torch::kFloat32));
  group_.sum(optimizer.reduced());
  loss.copy_(message[0]);
  if (step < next_look_) return;
  const auto heard = message.to(torch::kCPU, torch::kFloat64);
  group_.check();
  signal_ = stop_signal_of({heard.const_data_ptr<double>() + 2, kStopSignals.size()});
  next_look_ = step + std::max<int64_t>(1, heard[1].item<int64_t>());
  last_look_ = step;
  last_look_time_ = steady_clock::now();
}

int Agreement::own_stop_signal() {
  if (own_signal_ == 0 && hook_) own_signal_ = hook_();
  return own_signal_;
}

void Agreement::look_whether_alone() {
  if (group_.alone()) signal_ = own_stop_signal();
}

void Agreement::agree_on_stop() {
  const int own = own_stop_signal();
  signal_ = group_.alone() ? own : stop_signal_of(group_.sum(as_counts(own)));
}

}  // namespace igpt::training
