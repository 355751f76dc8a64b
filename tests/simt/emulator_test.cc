#include "simt/emulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace igpt::simt {
namespace {

using ::testing::HasSubstr;

constexpr int kOrders = 20;

// ---- each check, against a kernel that is broken on purpose

enum class Bug {
  none,
  missing_barrier,
  shared_out_of_bounds,
  global_out_of_bounds,
  divergent_barrier,
  different_barriers,
  early_exit,
  uninitialised,
  divergent_shuffle,
  different_warp_operations,
  missing_warp_barrier,
  blocks_collide,
  misaligned,
  different_arrays,
  too_little_shared_memory,
};

constexpr int kThreads = 128, kCount = 300;

/// sums[block] = the sum of the block's 128 values, by a tree in shared memory.
void sum_kernel(ptr<const float> values, ptr<float> sums, Bug bug) {
  SharedArena arena;
  const auto tree = arena.take<float>(bug == Bug::different_arrays && thread() == 9 ? kThreads - 4 : kThreads, "tree");
  const auto of_warps = arena.take<float>(bug == Bug::too_little_shared_memory ? 1000 : 4, "of_warps");
  const int t = thread(), i = block() * kThreads + t;
  if (bug == Bug::early_exit && i >= kCount) return;
  if (bug != Bug::uninitialised || i < kCount)
    tree[t] = bug == Bug::global_out_of_bounds || i < kCount ? static_cast<float>(values[i]) : 0.0f;
  if (bug == Bug::different_barriers && t < 64) {
    sync_threads();
  } else if (bug != Bug::missing_barrier && (bug != Bug::divergent_barrier || t < 96)) {
    sync_threads();
  }
  float sum = t < 64 ? tree[t] + tree[t + (bug == Bug::shared_out_of_bounds ? 65 : 64)] : 0.0f;
  if (bug == Bug::misaligned && t == 0) sum += load_as<float4>(tree + 1).x - tree[1];
  if (t < 64) {
    for (int mask = 16; mask > 0; mask /= 2) {
      if (bug == Bug::divergent_shuffle && t == 5) {
        sum += shuffle_xor(sum, mask);
      } else if (bug == Bug::different_warp_operations && t == 5) {
        sum += any(true) ? 1.0f : 0.0f;
      } else {
        sum += shuffle_xor(sum, mask);
      }
    }
  }
  if (t < 64 && t % 32 == 0) of_warps[t / 32] = sum;
  if (t < 32) {  // from hand to hand within a warp
    if (t == 0) of_warps[3] = 0.0f;
    if (bug != Bug::missing_warp_barrier) sync_warp();
    if (t == 31) of_warps[2] = of_warps[3];
  }
  sync_threads();
  if (t == 0) sums[bug == Bug::blocks_collide ? 0 : block()] = of_warps[0] + of_warps[1] + of_warps[2];
}

/// What the emulator says in each order; empty where it found nothing.
std::vector<std::string> findings(Bug bug, Buffer<float>& values, Buffer<float>& sums) {
  std::vector<std::string> all;
  for (int order = 1; order <= kOrders; ++order) {
    device().order = static_cast<unsigned>(order);
    try {
      const Config config{.blocks = {3}, .threads = kThreads, .shared_bytes = 1024};
      EXPECT_EQ(launch(config, sum_kernel, device_ptr<const float>(values.data()), device_ptr(sums.data()), bug),
                nullptr);
      all.emplace_back();
    } catch (const Fault& fault) {
      all.emplace_back(fault.what());
    }
  }
  return all;
}

std::vector<float> one_to(int count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i);
  return values;
}

TEST(Emulator, RunsASoundKernel) {
  Buffer<float> values("values", one_to(kCount)), sums("sums", 3);
  EXPECT_EQ(sums.unwritten(), 3);
  EXPECT_THAT(findings(Bug::none, values, sums), ::testing::Each(""));
  EXPECT_THAT(sums.values(), ::testing::ElementsAre(8128, 24512, 12210));
  EXPECT_EQ(sums.unwritten(), 0);
}

struct Broken {
  Bug bug;
  const char* name;
  const char* finding;
};

std::ostream& operator<<(std::ostream& out, const Broken& broken) {
  return out << broken.name;
}

class EmulatorFinds : public ::testing::TestWithParam<Broken> {};

TEST_P(EmulatorFinds, ItInEveryOrder) {
  Buffer<float> values("values", one_to(kCount)), sums("sums", 3);
  EXPECT_THAT(findings(GetParam().bug, values, sums), ::testing::Each(HasSubstr(GetParam().finding)));
}

INSTANTIATE_TEST_SUITE_P(
    Bugs, EmulatorFinds,
    ::testing::Values(Broken{Bug::missing_barrier, "MissingBarrier", "shared tree["},
                      Broken{Bug::shared_out_of_bounds, "SharedOutOfBounds", "read out of bounds: shared tree"},
                      Broken{Bug::global_out_of_bounds, "GlobalOutOfBounds", "read out of bounds: global values"},
                      Broken{Bug::divergent_barrier, "DivergentBarrier", "divergence"},
                      Broken{Bug::different_barriers, "DifferentBarriers", "divergence: threads at the barriers"},
                      Broken{Bug::early_exit, "EarlyExit", "has ended"},
                      Broken{Bug::uninitialised, "Uninitialised", "read of uninitialised shared tree"},
                      Broken{Bug::divergent_shuffle, "DivergentShuffle", "divergence: lanes at the warp operations"},
                      Broken{Bug::different_warp_operations, "DifferentWarpOperations", "divergence: lanes"},
                      Broken{Bug::missing_warp_barrier, "MissingWarpBarrier", "shared of_warps[3]"},
                      Broken{Bug::blocks_collide, "BlocksCollide", "race (write after write): global sums[0]"},
                      Broken{Bug::misaligned, "Misaligned", "misaligned read of 16 bytes: shared tree at byte 4"},
                      Broken{Bug::different_arrays, "DifferentArrays", "different arrays"},
                      Broken{Bug::too_little_shared_memory, "TooLittleSharedMemory", "too little shared memory"}),
    ::testing::PrintToStringParamName());

TEST(Emulator, FindsWhatTheHostForgotToFill) {
  Buffer<float> values("values", kCount), sums("sums", 3);
  EXPECT_THAT(findings(Bug::none, values, sums), ::testing::Each(HasSubstr("read of uninitialised global values")));
}

TEST(Emulator, NamesBlockAndThread) {
  Buffer<float> values("values", one_to(kCount)), sums("sums", 3);
  EXPECT_THAT(findings(Bug::global_out_of_bounds, values, sums), ::testing::Each(HasSubstr("[block 2 thread ")));
}

TEST(Emulator, LaunchesWithoutOrderBetweenThemDoNotRace) {
  Buffer<float> sums("sums", 1);
  const auto write = +[](ptr<float> to) {
    if (thread() == 3) to[0] = 1.0f;
  };
  for (int i = 0; i < 2; ++i) EXPECT_EQ(launch({.threads = 32}, write, device_ptr(sums.data())), nullptr);
}

TEST(Emulator, RefusesWhatADeviceRefuses) {
  const auto nothing = +[] {};
  EXPECT_NE(launch({.threads = 33}, nothing), nullptr);
  EXPECT_NE(launch({.threads = 2048}, nothing), nullptr);
  EXPECT_NE(launch({.blocks = {0}}, nothing), nullptr);
  EXPECT_NE(launch({.shared_bytes = 228 * 1024}, nothing), nullptr);
  EXPECT_EQ(launch({.shared_bytes = 227 * 1024}, nothing), nullptr);
  float loose = 0;
  EXPECT_THROW(device_ptr(&loose), Fault);
}

// ---- the race detector, against brute force on random little programs

struct Step {
  enum class Kind { access, warp_barrier, block_barrier } kind;
  int block, thread, address;
  bool write;
};

void interpret(const std::vector<Step>& program, ptr<uint16_t> global, bool use_global) {
  SharedArena arena;
  const auto shared = arena.take<uint16_t>(4, "words");
  if (thread() < 4) shared[thread()] = uint16_t{0};
  sync_threads();
  const auto memory = use_global ? global : shared;
  for (const Step& step : program) {
    if (step.kind == Step::Kind::block_barrier) sync_threads();
    if (step.kind == Step::Kind::warp_barrier) sync_warp();
    if (step.kind != Step::Kind::access || step.block != block() || step.thread != thread()) continue;
    if (step.write) {
      memory[step.address] = uint16_t{1};
    } else {
      static_cast<void>(static_cast<uint16_t>(memory[step.address]));
    }
  }
}

/// Whether nothing orders accesses i and j of a program, and they conflict.
bool races(const std::vector<Step>& program, size_t i, size_t j, bool use_global) {
  const Step &a = program[i], &b = program[j];
  if (a.kind != Step::Kind::access || b.kind != Step::Kind::access) return false;
  if (a.address != b.address || (!a.write && !b.write)) return false;
  if (a.block != b.block) return use_global;
  if (a.thread == b.thread) return false;
  return std::none_of(program.begin() + static_cast<ptrdiff_t>(i), program.begin() + static_cast<ptrdiff_t>(j),
                      [&](const Step& between) {
                        return between.kind == Step::Kind::block_barrier ||
                               (between.kind == Step::Kind::warp_barrier && a.thread / 32 == b.thread / 32);
                      });
}

bool has_race(const std::vector<Step>& program, bool use_global) {
  for (size_t i = 0; i < program.size(); ++i)
    for (size_t j = i + 1; j < program.size(); ++j)
      if (races(program, i, j, use_global)) return true;
  return false;
}

TEST(RaceDetector, AgreesWithBruteForceOnRandomPrograms) {
  std::mt19937 random(3);
  const auto below = [&](unsigned n) { return static_cast<int>(random() % n); };
  constexpr int kPrograms = 5000, kActing[] = {0, 1, 7, 32, 45};
  int with_race = 0;
  for (int i = 0; i < kPrograms; ++i) {
    std::vector<Step> program;
    const bool use_global = below(2) == 0;
    for (int steps = 3 + below(9); steps > 0; --steps) {
      const int kind = below(10);
      program.push_back({kind < 6   ? Step::Kind::access
                         : kind < 8 ? Step::Kind::warp_barrier
                                    : Step::Kind::block_barrier,
                         below(8) == 0, kActing[below(5)], below(3), below(3) == 0});
    }
    Buffer<uint16_t> words("words", std::vector<uint16_t>(4));
    device().order = static_cast<unsigned>(i);
    bool found = false;
    try {
      launch({.blocks = {2}, .threads = 64, .shared_bytes = 64}, interpret, program, device_ptr(words.data()),
             use_global);
    } catch (const Fault&) {
      found = true;
    }
    ASSERT_EQ(found, has_race(program, use_global)) << "program " << i;
    with_race += found;
  }
  EXPECT_GT(with_race, kPrograms / 4);
  EXPECT_LT(with_race, kPrograms * 3 / 4);
}

}  // namespace
}  // namespace igpt::simt
