#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "igpt/hooks.h"

namespace igpt {

/// work(), whose duration is reported as a detail: "drew 25 images in 0.4312 s".
template <class Work>
auto timed(const Hooks& hooks, const std::string& what, const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  auto result = work();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  char text[32];
  std::snprintf(text, sizeof text, " in %.4f s", seconds.count());
  if (hooks.detail) hooks.detail(what + text);
  return result;
}

}  // namespace igpt
