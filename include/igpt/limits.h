#pragma once

#include <limits.h>
#include <pthread.h>
#include <sys/resource.h>

#include <cstdint>
#include <optional>
#include <string>

namespace igpt {

/// Bytes of address space that the user allows this process (ulimit -v); nothing: no limit.
inline std::optional<uint64_t> memory_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return {};
  return limit.rlim_cur;
}

/// " (ulimit -v allows 500 MiB)", or nothing.
inline std::string memory_limit_in_words() {
  const auto limit = memory_limit();
  return limit ? " (ulimit -v allows " + std::to_string(*limit >> 20) + " MiB)" : "";
}

/// What ends a message about memory that does not suffice.
inline std::string more_memory() {
  return memory_limit_in_words() + (memory_limit() ? "; allow more" : "; use a machine with more");
}

/// " (ulimit -u allows 40 of this user)", or nothing.
inline std::string process_limit_in_words() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NPROC, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "";
  return " (ulimit -u allows " + std::to_string(limit.rlim_cur) + " of this user)";
}

/// Why no thread could be started: "the limit on processes (ulimit -u allows 40 of this user) is reached", or that on
/// memory, which a thread's stack takes.
inline std::string why_no_thread() {
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, static_cast<size_t>(PTHREAD_STACK_MIN));
  pthread_t thread{};
  const bool starts = pthread_create(
                          &thread, &small, [](void*) -> void* { return nullptr; }, nullptr) == 0;
  pthread_attr_destroy(&small);
  if (starts) pthread_join(thread, nullptr);
  return starts && memory_limit() ? "the limit on memory" + memory_limit_in_words() + " is reached"
                                  : "the limit on processes" + process_limit_in_words() + " is reached";
}

}  // namespace igpt
