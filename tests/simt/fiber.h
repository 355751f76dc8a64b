#pragma once

#include <cstddef>

namespace igpt::simt {

/// A function with a stack of its own, which the scheduler runs until it pauses. For x86-64.
class Fiber {
 public:
  Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  /// The next resume() enters `entry`, which must end in pause() and never be resumed after it. What the fiber was
  /// doing before is forgotten.
  void start(void (*entry)());
  void resume();

  static void pause();  ///< of the fiber that runs, back into resume()

 private:
  static constexpr size_t kStackBytes = 128 * 1024;

  char* memory_;  // a page that nobody may touch, then the stack
  void* stack_pointer_ = nullptr;
};

}  // namespace igpt::simt
