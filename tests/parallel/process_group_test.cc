#include "igpt/training/process_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "free_port.h"

namespace igpt::training {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Ranks in threads of one process, as only these tests have them, share c10d's flight recorder, which notes each group
// before it takes its lock. It looks at its size at its first use; the programs that other tests start keep theirs.
struct WithoutFlightRecorder {
  WithoutFlightRecorder() { setenv("TORCH_FR_BUFFER_SIZE", "0", 1); }
  ~WithoutFlightRecorder() { unsetenv("TORCH_FR_BUFFER_SIZE"); }
};

DistributedContext launch_of(int64_t rank, int64_t size, int64_t port) {
  return {.rank = rank, .size = size, .address = "127.0.0.1", .port = port, .one_machine = true, .timeout = 60};
}

// `work` of each rank, in threads.
void with_ranks(int64_t size, const std::function<void(ProcessGroup&)>& work) {
  const WithoutFlightRecorder off;
  const auto port = testing::free_port();
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank)
    threads.emplace_back([=, &work] {
      try {
        ProcessGroup group(launch_of(rank, size, port), c10::kCPU, {});
        work(group);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << rank << ": " << error.what();
      }
    });
  for (auto& thread : threads) thread.join();
}

TEST(ProcessGroup, OneProcessNeedsNobody) {
  ProcessGroup group({}, c10::kCPU, {});
  EXPECT_TRUE(group.alone() && group.is_first());
  auto values = torch::ones({3});
  group.sum(values);
  EXPECT_EQ(values.sum().item<double>(), 3);
  EXPECT_THAT(group.gather(7), ElementsAre(7));
  EXPECT_EQ(group.from_first("text"), "text");
  EXPECT_EQ(group.share(10), std::make_pair(int64_t{0}, int64_t{10}));
}

TEST(ProcessGroup, SumsGathersAndCopies) {
  with_ranks(3, [](ProcessGroup& group) {
    const int64_t rank = group.rank();
    auto values = torch::arange(5000, torch::kFloat32) * static_cast<double>(rank + 1);
    group.sum(values);
    EXPECT_TRUE(torch::equal(values, torch::arange(5000, torch::kFloat32) * 6));
    EXPECT_THAT(group.sum({0.5, static_cast<double>(rank)}), ElementsAre(1.5, 3));
    EXPECT_THAT(group.gather(10 * rank), ElementsAre(0, 10, 20));
    EXPECT_EQ(group.from_first(rank == 0 ? "first" : "another"), "first");
    EXPECT_EQ(group.from_first(rank == 0 ? "" : "another"), "");
    auto copied = torch::full({4}, rank);
    group.copy_from_first(copied);
    EXPECT_EQ(copied.sum().item<int64_t>(), 0);
  });
}

TEST(ProcessGroup, SharesCoverEverythingOnceAndEvenly) {
  for (const int64_t size : {1, 2, 3, 7})
    for (const int64_t count : {0, 1, 6, 7, 8, 64}) {
      int64_t end_before = 0;
      for (int64_t rank = 0; rank < size; ++rank) {
        const auto [begin, end] = DistributedContext{.rank = rank, .size = size}.share(count);
        EXPECT_EQ(begin, end_before);
        EXPECT_LE(end - begin, (count + size - 1) / size);
        EXPECT_GE(end - begin, count / size);
        end_before = end;
      }
      EXPECT_EQ(end_before, count);
    }
}

TEST(ProcessGroup, NamesTheRanksThatDifferInOneBit) {
  with_ranks(3, [](ProcessGroup& group) {
    auto weights = torch::ones({3000000}), bits = weights.view(torch::kInt32);
    EXPECT_EQ(group.ranks_unlike_first(fingerprint({weights})), "");
    if (group.rank() == 2) bits[2999999] += 1;
    EXPECT_EQ(group.ranks_unlike_first(fingerprint({weights})), "rank 2");
    const auto permuted = group.rank() == 1 ? torch::tensor({2.0f, 1.0f}) : torch::tensor({1.0f, 2.0f});
    EXPECT_EQ(group.ranks_unlike_first(fingerprint({permuted})), "rank 1");
  });
}

TEST(ProcessGroup, StoreOfAnEarlierStartDoesNotConfuse) {
  const WithoutFlightRecorder off;
  const auto port = static_cast<uint16_t>(testing::free_port());
  const auto launchers = c10::make_intrusive<c10d::TCPStore>(
      "127.0.0.1", c10d::TCPStoreOptions{.port = port, .isServer = true, .waitWorkers = false});
  const auto start = [&](int64_t rank) {
    auto launch = launch_of(rank, 2, port);
    launch.store_is_up = true;
    ProcessGroup group(launch, c10::kCPU, {});
    EXPECT_THAT(group.gather(rank + 5), ElementsAre(5, 6));
  };
  for (int again = 0; again < 3; ++again) {  // each time rank 1 comes first, and finds what was left
    std::thread other([&] { start(1); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    start(0);
    other.join();
  }
}

TEST(ProcessGroup, RankThatIsMissingIsNamed) {
  auto launch = launch_of(0, 3, testing::free_port());
  launch.timeout = 1;
  try {
    ProcessGroup group(launch, c10::kCPU, {});
    FAIL() << "no exception";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 0 of 3: rank 1, 2 did not come to 127.0.0.1:"));
  }
}

TEST(ProcessGroup, RankZeroSaysForWhomItWaits) {
  auto launch = launch_of(0, 9, testing::free_port());
  launch.alone = "unset RANK WORLD_SIZE";
  std::string said;
  EXPECT_THROW(ProcessGroup(
                   launch, c10::kCPU,
                   [&] {
                     if (!said.empty()) throw Interrupted(15);
                   },
                   [&](const std::string& line) { said += line; }),
               Interrupted);
  EXPECT_EQ(said, "rank 0 of 9 waits for ranks 1 to 8 at 127.0.0.1:" + std::to_string(launch.port) +
                      "; if this process was to train alone, type: unset RANK WORLD_SIZE");
}

TEST(ProcessGroup, WaitForTheOthersCanBeEnded) {
  EXPECT_THROW(ProcessGroup(launch_of(0, 2, testing::free_port()), c10::kCPU, [] { throw Interrupted(15); }),
               Interrupted);
}

TEST(ProcessGroup, RankThatLeavesIsALostRank) {
  with_ranks(2, [](ProcessGroup& group) {
    group.gather(0);  // both are connected
    if (group.rank() == 1) return;
    EXPECT_THROW(group.gather(1), RanksLost);
  });
}

}  // namespace
}  // namespace igpt::training
