#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace igpt::data {

/// The processors that there are, at least 1.
inline int processors() {
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

/// Calls part(begin, end) for parts that together are [0, count), in at most `threads` threads, and waits for all of
/// them; where a thread cannot be started, this one does its part. Rethrows what a part throws.
template <class Part>
void in_parallel(int64_t count, int threads, const Part& part) {
  const int64_t parts = std::clamp<int64_t>(threads, 1, std::max<int64_t>(count, 1));
  std::vector<std::exception_ptr> failures(static_cast<size_t>(parts));
  const auto work = [&](int64_t k) {
    try {
      part(count * k / parts, count * (k + 1) / parts);
    } catch (...) {
      failures[static_cast<size_t>(k)] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    for (int64_t k = 1; k < parts; ++k) try {
        others.emplace_back(work, k);
      } catch (const std::system_error&) {
        work(k);
      }
    work(0);
  }
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

}  // namespace igpt::data
