#include "simt/emulator.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <unordered_map>

#include "simt/fiber.h"

namespace igpt::simt {
namespace {

constexpr int kWarp = 32;

struct Thread {
  enum class State { ready, at_warp_operation, at_block_barrier, done };

  Fiber fiber;
  Access access;
  State state = State::ready;
  uint32_t awaited = 0;  // the generation of the warp's operations or of the block's barriers that has to pass
  size_t arrays_taken = 0, bytes_taken = 0;  // from the arena
  Where where;
};

struct Warp {
  int arrived = 0;
  uint32_t generation = 0;
  WarpOperation operation{};
  Where where;
  alignas(16) char slots[2][kWarp][kSlotBytes];  // in turn: the next operation may begin before all have read
};

struct Block {
  int threads = 0, arrived = 0;
  uint32_t barriers = 0;
  Where where;
  std::vector<Warp> warps;
  std::unique_ptr<char[]> memory;
  size_t memory_bytes = 0;
  std::vector<std::unique_ptr<CheckedMemory>> arrays;
};

struct Machine {
  Device device;
  uint32_t launches = 0;
  Grid grid;
  int32_t block_number = 0;
  Block block;
  std::vector<std::unique_ptr<Thread>> threads;
  Thread* running = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::string fault;
  std::vector<CheckedMemory*> global;
  std::unordered_map<const void*, CheckedMemory*> found;  // by find_global()
};

Machine& machine() {
  thread_local Machine instance;
  return instance;
}

std::string line(const Where& where) {
  const std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

bool same(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column();
}

void wait(Thread::State state, uint32_t generation, const Where& where) {
  Thread& me = *machine().running;
  me.state = state;
  me.awaited = generation;
  me.where = where;
  Fiber::pause();
}

void run_thread() {
  Machine& m = machine();
  try {
    (*m.kernel)();
  } catch (const Fault& fault) {
    m.fault = std::string(fault.what()) + " [block " + std::to_string(m.block_number) + " thread " +
              std::to_string(m.running->access.thread) + "]";
  }
  m.running->state = Thread::State::done;
  Fiber::pause();
}

bool can_run(Thread& thread) {
  const Block& block = machine().block;
  const bool passed = (thread.state == Thread::State::at_warp_operation &&
                       block.warps[static_cast<size_t>(thread.access.warp())].generation != thread.awaited) ||
                      (thread.state == Thread::State::at_block_barrier && block.barriers != thread.awaited);
  if (passed) thread.state = Thread::State::ready;
  return thread.state == Thread::State::ready;
}

void start_block(const Config& config, int32_t number) {
  Machine& m = machine();
  m.block_number = number;
  m.block = {};
  m.block.threads = config.threads;
  m.block.warps.resize(static_cast<size_t>(config.threads / kWarp));
  m.block.memory_bytes = static_cast<size_t>(config.shared_bytes);
  m.block.memory = std::make_unique<char[]>(m.block.memory_bytes + 16);
  std::memset(m.block.memory.get(), 0xff, m.block.memory_bytes);  // NaN
  while (m.threads.size() < static_cast<size_t>(config.threads)) m.threads.push_back(std::make_unique<Thread>());
  for (int i = 0; i < config.threads; ++i) {
    Thread& thread = *m.threads[static_cast<size_t>(i)];
    thread.access = {.launch = m.launches, .block = number, .thread = i};
    thread.state = Thread::State::ready;
    thread.arrays_taken = thread.bytes_taken = 0;
    thread.fiber.start(run_thread);
  }
}

/// Runs a warp's threads, beginning anywhere, until none can go on. Whether any could.
bool run_warp(int warp, std::mt19937& random) {
  Machine& m = machine();
  bool progress = false;
  for (bool more = true; more;) {
    more = false;
    unsigned lane = static_cast<unsigned>(random());
    const unsigned step = lane | 1;
    for (int i = 0; i < kWarp; ++i, lane += step) {
      Thread& thread = *m.threads[static_cast<size_t>(warp) * kWarp + lane % kWarp];
      if (!can_run(thread)) continue;
      m.running = &thread;
      thread.fiber.resume();
      m.running = nullptr;
      if (!m.fault.empty()) throw Fault(m.fault);
      more = progress = true;
    }
  }
  return progress;
}

/// After no thread can go on, all must be done.
void check_all_done() {
  Machine& m = machine();
  const Thread *waiting = nullptr, *gone = nullptr;
  for (int i = 0; i < m.block.threads; ++i) {
    const Thread* thread = m.threads[static_cast<size_t>(i)].get();
    (thread->state == Thread::State::done ? gone : waiting) = thread;
  }
  if (!waiting) return;
  std::string text = "divergence: thread " + std::to_string(waiting->access.thread) + " waits for ever at " +
                     (waiting->state == Thread::State::at_block_barrier ? "the barrier " : "the warp operation ") +
                     line(waiting->where);
  if (gone) text += "; thread " + std::to_string(gone->access.thread) + " has ended";
  throw Fault(text);
}

}  // namespace

Device& device() {
  return machine().device;
}

int thread() {
  return machine().running->access.thread;
}
int block() {
  return static_cast<int>(machine().block_number % machine().grid.x);
}
int block_y() {
  return static_cast<int>(machine().block_number / machine().grid.x % machine().grid.y);
}
int block_z() {
  return static_cast<int>(machine().block_number / (machine().grid.x * machine().grid.y));
}
int block_threads() {
  return machine().block.threads;
}
const Access* access() {
  Machine& m = machine();
  if (!m.running) return nullptr;
  m.running->access.block_barriers = m.block.barriers;
  return &m.running->access;
}

void sync_threads(Where where) {
  Block& block = machine().block;
  if (block.arrived == 0)
    block.where = where;
  else if (!same(block.where, where))
    throw Fault("divergence: threads at the barriers " + line(block.where) + " and " + line(where));
  if (++block.arrived == block.threads) {
    block.arrived = 0;
    ++block.barriers;
  } else {
    wait(Thread::State::at_block_barrier, block.barriers, where);
  }
}

Slots gather(WarpOperation operation, const void* value, size_t bytes, const Where& where) {
  const Thread& me = *machine().running;
  Warp& warp = machine().block.warps[static_cast<size_t>(me.access.warp())];
  auto& slots = warp.slots[warp.generation % 2];
  if (warp.arrived == 0) {
    warp.operation = operation;
    warp.where = where;
  } else if (warp.operation != operation || !same(warp.where, where)) {
    throw Fault("divergence: lanes at the warp operations " + line(warp.where) + " and " + line(where));
  }
  std::memcpy(slots[me.access.thread % kWarp], value, bytes);
  if (++warp.arrived == kWarp) {
    warp.arrived = 0;
    ++warp.generation;
  } else {
    wait(Thread::State::at_warp_operation, warp.generation, where);
  }
  return slots;
}

void sync_warp(Where where) {
  gather(WarpOperation::barrier, 0, where);
  ++machine().running->access.warp_barriers;
}

CheckedMemory* take_shared(const char* name, size_t count, size_t element_bytes) {
  Machine& m = machine();
  Thread& me = *m.running;
  const size_t offset = me.bytes_taken, bytes = count * element_bytes;
  me.bytes_taken += (bytes + 15) / 16 * 16;
  if (me.bytes_taken > m.block.memory_bytes)
    throw Fault(std::string("the launch has too little shared memory for ") + name);
  auto& arrays = m.block.arrays;
  if (me.arrays_taken == arrays.size())
    arrays.push_back(std::make_unique<CheckedMemory>(std::string("shared ") + name, m.block.memory.get() + offset,
                                                     count, element_bytes));
  CheckedMemory* array = arrays[me.arrays_taken++].get();
  if (array->base() != m.block.memory.get() + offset || array->bytes() != bytes)
    throw Fault(std::string("divergence: threads take different arrays from the arena, one of them ") + name);
  return array;
}

void register_global(CheckedMemory* memory) {
  machine().global.push_back(memory);
  machine().found.clear();
}
void forget_global(CheckedMemory* memory) {
  std::erase(machine().global, memory);
  machine().found.clear();
}
CheckedMemory* find_global(const void* at) {
  CheckedMemory*& found = machine().found[at];
  if (found) return found;
  for (CheckedMemory* memory : machine().global)
    if (at >= memory->base() && at < memory->base() + memory->bytes()) return found = memory;
  throw Fault("a pointer to no buffer was given to a kernel");
}

const char* run(const Config& config, const std::function<void()>& kernel) {
  Machine& m = machine();
  const Grid& grid = config.blocks;
  constexpr int64_t kMost = 65535;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > INT32_MAX || grid.y > kMost || grid.z > kMost ||
      config.threads % kWarp != 0 || config.threads < kWarp || config.threads > 1024 ||
      config.shared_bytes > m.device.shared_bytes)
    return "invalid configuration argument";
  m.device.shared_bytes_of_launch = config.shared_bytes;
  m.grid = grid;
  ++m.launches;
  m.fault.clear();
  m.kernel = &kernel;
  std::mt19937 random(m.device.order);
  std::vector<int> order(static_cast<size_t>(config.threads / kWarp));
  std::iota(order.begin(), order.end(), 0);
  for (int32_t number = 0; number < grid.x * grid.y * grid.z; ++number) {
    start_block(config, number);
    for (bool progress = true; progress;) {
      progress = false;
      std::shuffle(order.begin(), order.end(), random);
      for (const int warp : order) progress |= run_warp(warp, random);
    }
    check_all_done();
  }
  return nullptr;
}

}  // namespace igpt::simt
