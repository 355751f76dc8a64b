#include "simt/fiber.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <new>

// Saves the registers that a call preserves (System V ABI, section 3.2.1) and the stack pointer, and takes the other's.
extern "C" void igpt_simt_switch(void** save, void* to);
asm(R"(
.text
.globl igpt_simt_switch
.hidden igpt_simt_switch
.type igpt_simt_switch, @function
igpt_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size igpt_simt_switch, .-igpt_simt_switch
)");

namespace igpt::simt {
namespace {

constexpr size_t kPage = 4096;
constexpr int kSavedRegisters = 6;

thread_local void* scheduler = nullptr;  // its stack pointer while a fiber runs
thread_local void** running = nullptr;   // where the fiber's goes

}  // namespace

Fiber::Fiber() {
  void* memory =
      mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
}

Fiber::~Fiber() {
  munmap(memory_, kPage + kStackBytes);
}

void Fiber::start(void (*entry)()) {
  // As if `entry` had been called and had switched away at once: registers, its address, and a return address that is
  // never used, so that the stack is aligned as in any function.
  auto** top = reinterpret_cast<void**>(memory_ + kPage + kStackBytes) - (kSavedRegisters + 2);
  std::fill_n(top, kSavedRegisters + 2, nullptr);
  top[kSavedRegisters] = reinterpret_cast<void*>(entry);
  stack_pointer_ = top;
}

void Fiber::resume() {
  running = &stack_pointer_;
  igpt_simt_switch(&scheduler, stack_pointer_);
}

void Fiber::pause() {
  igpt_simt_switch(running, scheduler);
}

}  // namespace igpt::simt
