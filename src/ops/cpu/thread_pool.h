#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace igpt::ops::cpu {

/// Threads that wait for work, first by spinning (a step's calls come one after the other), then asleep.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  /// Calls work(worker) on every thread, worker from 0 (the caller) to size() - 1, and returns when all are done.
  /// `work` must not throw.
  template <class Work>
  void run(Work&& work) {
    run([](void* context, int worker) { (*static_cast<Work*>(context))(worker); }, &work);
  }

 private:
  using Call = void (*)(void* context, int worker);
  void run(Call call, void* context);
  void serve(int worker);
  void stop();

  Call call_ = nullptr;
  void* context_ = nullptr;
  std::atomic<uint32_t> round_{0}, running_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace igpt::ops::cpu
