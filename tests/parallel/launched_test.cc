#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <deque>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/stop_signals.h"
#include "parallel/free_port.h"
#include "process.h"
#include "sanitized.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::Ending;
using ::testing::HasSubstr;
using ::testing::Not;
using Arguments = std::vector<std::string>;

constexpr auto kPatience = std::chrono::seconds(120);

// `size` processes with a launcher's variables, and for each rank what it alone is given.
class Ranks {
 public:
  Ranks(int size, const Arguments& command, const fs::path& folder,
        const std::map<std::string, std::string>& variables = {},
        const std::map<int, std::pair<Arguments, fs::path>>& own = {}) {
    const auto port = std::to_string(testing::free_port()), count = std::to_string(size);
    for (int rank = 0; rank < size; ++rank) {
      const auto number = std::to_string(rank);
      std::map<std::string, std::string> environment{{"RANK", number},       {"WORLD_SIZE", count},
                                                     {"LOCAL_RANK", number}, {"LOCAL_WORLD_SIZE", count},
                                                     {"MASTER_PORT", port},  {"MASTER_ADDR", "127.0.0.1"}};
      environment.insert(variables.begin(), variables.end());
      auto arguments = command;
      auto place = folder;
      if (const auto found = own.find(rank); found != own.end()) {
        arguments.insert(arguments.end(), found->second.first.begin(), found->second.first.end());
        place = found->second.second;
      }
      ranks_.emplace_back(arguments, environment, place);
    }
  }

  testing::Process& operator[](size_t rank) { return ranks_[rank]; }

  std::vector<Ending> wait() {
    std::vector<Ending> endings;
    for (auto& rank : ranks_) endings.push_back(rank.wait(kPatience));
    return endings;
  }

 private:
  std::deque<testing::Process> ranks_;
};

class Parallel : public ::testing::Test {
 protected:
  Parallel() { testing::write_tiny_dataset(folder_ / "data"); }

  static Arguments training(const std::string& name, const Arguments& more = {}) {
    Arguments arguments =
        testing::with_tiny_model({testing::program("run"), "train", "--name", name, "--batch_size", "14", "--steps",
                                  "30", "--val_interval", "10", "--seed", "3", "--device", "cpu", "--threads", "1"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  fs::path last(const std::string& name, int version = 0) const {
    return folder_ / ("logs/" + name + "/version_" + std::to_string(version) + "/checkpoints/last.ckpt");
  }
  bool wait_for(const fs::path& file) const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!fs::exists(file) && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return fs::exists(file);
  }
  void expect_success(int size, const Arguments& command, const std::map<std::string, std::string>& more = {}) {
    for (const auto& ending : Ranks(size, command, folder_.path(), more).wait())
      EXPECT_EQ(ending.exit_code, 0) << ending.err;
  }

  testing::TemporaryFolder folder_;
};

// Sums of gradients in another order, through the optimizer.
void expect_close(const fs::path& actual, const fs::path& expected) {
  const auto a = read_checkpoint(actual), e = read_checkpoint(expected);
  EXPECT_EQ(a.global_step, e.global_step);
  EXPECT_NEAR(a.progress->best_score, e.progress->best_score, 1e-4);
  EXPECT_EQ(a.progress->best_step, e.progress->best_step);
  EXPECT_NEAR(a.progress->train_loss_sum, e.progress->train_loss_sum, 1e-3);
  EXPECT_EQ(a.progress->train_loss_count, e.progress->train_loss_count);
  for (size_t i = 0; i < e.state_dict.size(); ++i) {
    const auto& name = e.state_dict[i].first;
    if (name.ends_with("in_proj_bias")) continue;  // the keys' part of it has no gradient but rounding
    const double difference = (a.state_dict[i].second - e.state_dict[i].second).abs().max().item<double>();
    EXPECT_LT(difference, 2e-4) << name;
  }
}

TEST_F(Parallel, TwoAndFourRanksTrainToTheWeightsOfOne) {
  // 14 images do not divide by 4, nor 8 validation images by 3.
  const Arguments more{"--accumulate", "2", "--grad_clip", "0.5", "--augment_shift", "1", "--augment_flip"};
  expect_success(1, training("one", more));
  expect_success(2, training("two", more));
  expect_success(4, training("four", more));
  expect_close(last("two"), last("one"));
  expect_close(last("four"), last("one"));
  EXPECT_FALSE(fs::exists(last("four", 1)));
}

TEST_F(Parallel, LibTorchsKernelsTrainToTheSameWeightsToo) {
  const std::map<std::string, std::string> kernels{{"IGPT_KERNELS", "libtorch"}};
  expect_success(1, training("one"), kernels);
  expect_success(3, training("three"), kernels);
  expect_close(last("three"), last("one"));
}

TEST_F(Parallel, RanksWithAdamTrainToTheWeightsOfOne) {
  const Arguments adam{"--optimizer", "adam", "--grad_clip", "0.5"};
  expect_success(1, training("one", adam));
  expect_success(2, training("two", adam));
  expect_close(last("two"), last("one"));
}

TEST_F(Parallel, ClassifiersStopAfterTheSameValidation) {
  const Arguments more{"--classify", "--generative_weight", "0.5", "--patience", "2", "--steps", "2000"};
  expect_success(1, training("one", more));
  expect_success(2, training("two", more));
  EXPECT_LT(read_checkpoint(last("one")).global_step, 2000);
  const auto one = read_checkpoint(last("one")), two = read_checkpoint(last("two"));
  EXPECT_EQ(one.global_step, two.global_step);
  EXPECT_EQ(one.progress->best_score, two.progress->best_score);
}

TEST_F(Parallel, ResumedWithMoreRanksAndWithLess) {
  const Arguments constant{"--schedule", "constant", "--warmup_steps", "0"};  // whatever the number of steps
  expect_success(1, training("one", constant));
  auto begin = training("parts", constant);
  *std::find(begin.begin(), begin.end(), "30") = "10";
  expect_success(2, begin);
  const auto resume = [&](const char* steps) {
    return Arguments{
        testing::program("run"), "train", "--resume", last("parts").string(), "--steps", steps, "--threads", "1"};
  };
  expect_success(3, resume("20"));
  expect_success(1, resume("30"));
  expect_close(last("parts"), last("one"));
}

// Every process draws a seed.
Arguments seedless(Arguments command) {
  const auto seed = std::find(command.begin(), command.end(), "--seed");
  command.erase(seed, seed + 2);
  return command;
}

std::string seed_of(const fs::path& checkpoint) {
  const auto written = read_checkpoint(checkpoint);
  for (const auto& [name, value] : written.hyper_parameters)
    if (name == "seed") return to_text(value);
  return "none";
}

TEST_F(Parallel, RanksTakeRankZerosSeedAndOnlyItTells) {
  const auto endings = Ranks(2, seedless(training("seedless")), folder_.path()).wait();
  EXPECT_EQ(endings[0].exit_code, 0) << endings[0].err;
  EXPECT_EQ(endings[1].exit_code, 0) << endings[1].err;
  EXPECT_THAT(endings[0].out, HasSubstr("best.ckpt: step"));
  EXPECT_EQ(endings[1].out + endings[1].err, "");
}

// A training that is running, without an end of its own.
Arguments endless(Arguments command) {
  *std::find(command.begin(), command.end(), "30") = "100000000";
  command.insert(command.end(), {"--checkpoint_interval", "5", "-q"});
  return command;
}

void expect_one_line(const Ending& ending, int exit_code, const std::string& text) {
  EXPECT_EQ(ending.exit_code, exit_code) << ending.signal;
  EXPECT_EQ(std::count(ending.err.begin(), ending.err.end(), '\n'), 1) << ending.err;
  EXPECT_THAT(ending.err, HasSubstr(text));
}

TEST_F(Parallel, KilledRankEndsTheOthersWithOneLine) {
  Ranks ranks(3, endless(training("killed")), folder_.path());
  ASSERT_TRUE(wait_for(last("killed"))) << ranks[0].err();
  ranks[0].signal(SIGKILL);
  const auto endings = ranks.wait();
  for (const int rank : {1, 2}) {
    expect_one_line(endings[rank], 1, "rank " + std::to_string(rank) + " of 3: another process");
    EXPECT_THAT(endings[rank].err, HasSubstr("--resume logs/killed/version_0/checkpoints/last.ckpt"));
  }
}

TEST_F(Parallel, RankThatHangsEndsTheOthersWithinTheTimeout) {
  auto command = endless(training("hangs"));
  command.insert(command.end(), {"--rank_timeout", "5"});
  Ranks ranks(2, command, folder_.path());
  ASSERT_TRUE(wait_for(last("hangs"))) << ranks[0].err();
  ranks[1].signal(SIGSTOP);
  expect_one_line(ranks[0].wait(std::chrono::seconds(60)), 1, "rank 0 of 2: another process");
  ranks[1].signal(SIGKILL);
}

TEST_F(Parallel, SignalToOneRankStopsAllAfterTheSameUpdate) {
  for (const auto& [signal, name] : kStopSignals) {
    Ranks ranks(2, endless(training(name)), folder_.path());
    ASSERT_TRUE(wait_for(last(name))) << ranks[0].err();
    ranks[1].signal(signal);
    const auto endings = ranks.wait();
    expect_one_line(endings[0], 128 + signal, std::string("interrupted by ") + name + " after step ");
    expect_one_line(endings[1], 128 + signal, std::string("interrupted by ") + name + "\n");
    EXPECT_NO_THROW(read_checkpoint(last(name)));
  }
}

TEST_F(Parallel, DifferentSignalsAtOnceStopAllForTheSameOne) {
  auto command = endless(training("several"));
  *std::find(command.begin(), command.end(), "10") = "1";
  Ranks ranks(3, command, folder_.path());
  ASSERT_TRUE(wait_for(last("several"))) << ranks[0].err();
  const std::array signals{SIGXCPU, SIGUSR2, SIGHUP};
  for (size_t rank = 0; rank < signals.size(); ++rank) ranks[rank].signal(signals[rank]);
  const auto endings = ranks.wait();
  for (const auto& ending : endings) {
    EXPECT_EQ(ending.exit_code, endings[0].exit_code) << ending.err;
    EXPECT_THAT(signals, ::testing::Contains(ending.exit_code - 128));
  }
}

TEST_F(Parallel, SignalToAllRanksInValidationsStopsThemAll) {
  auto command = endless(training("often"));
  *std::find(command.begin(), command.end(), "10") = "1";  // validates nearly all the time
  Ranks ranks(3, command, folder_.path());
  ASSERT_TRUE(wait_for(last("often"))) << ranks[0].err();
  for (const size_t rank : {2, 0, 1}) ranks[rank].signal(SIGTERM);
  for (const auto& ending : ranks.wait()) expect_one_line(ending, 143, "interrupted");
}

TEST_F(Parallel, LossThatIsNotFiniteEndsEveryRank) {
  const auto endings = Ranks(2, training("absurd", {"--learning_rate", "1e38", "-q"}), folder_.path()).wait();
  for (const auto& ending : endings) expect_one_line(ending, 1, "not finite");
}

TEST_F(Parallel, JobStartedAgainContinuesItsRun) {
  const auto start = [&](const char* job, const char* count, const Arguments& command) {
    return Ranks(2, command, folder_.path(), {{"TORCHELASTIC_RUN_ID", job}, {"TORCHELASTIC_RESTART_COUNT", count}});
  };
  {
    auto ranks = start("a", "0", endless(seedless(training("job"))));
    ASSERT_TRUE(wait_for(last("job"))) << ranks[0].err();
    ranks[1].signal(SIGKILL);
    ranks.wait();
  }
  const auto before = read_checkpoint(last("job")).global_step;
  const auto seed = seed_of(last("job"));
  auto command = seedless(training("job"));
  *std::find(command.begin(), command.end(), "30") = std::to_string(before + 10);
  for (const auto& ending : start("a", "1", command).wait()) EXPECT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_EQ(read_checkpoint(last("job")).global_step, before + 10);
  EXPECT_EQ(seed_of(last("job")), seed);
  EXPECT_FALSE(fs::exists(last("job", 1)));
  for (const auto& ending : start("b", "1", training("job")).wait()) EXPECT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_EQ(read_checkpoint(last("job", 1)).global_step, 30) << "another job's run";
}

TEST_F(Parallel, TorchrunsRestartGoesOnWithTheRun) {
  if (!fs::exists(IGPT_TORCHRUN)) GTEST_SKIP() << "no torchrun in .venv";
  if (sanitized) GTEST_SKIP() << "Python is not built with the sanitizer";
  Arguments command{IGPT_TORCHRUN, "--standalone", "--max-restarts", "1", "--no-python", "--nproc-per-node", "2",
                    "/bin/sh", "-c",
                    // the first time rank 1 ends in the middle
                    "if [ $TORCHELASTIC_RESTART_COUNT$RANK = 01 ]; then \"$@\" & until [ -e " +
                        last("torchrun").string() + " ]; do sleep 0.01; done; kill -9 $!; exit 1; fi; exec \"$@\"",
                    "rank"};
  for (const auto& argument : training("torchrun", {"--checkpoint_interval", "5"})) command.push_back(argument);
  *std::find(command.begin(), command.end(), "30") = "1500";
  const auto ending = testing::run(command, {}, folder_.path(), kPatience);
  EXPECT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_THAT(ending.err, HasSubstr("started again: going on from"));
  EXPECT_EQ(read_checkpoint(last("torchrun")).global_step, 1500);
  EXPECT_FALSE(fs::exists(last("torchrun", 1)));
}

// A batch system sends its signal to every process of a job: torchrun, which knows it or dies of it, and the ranks.
TEST_F(Parallel, SignalsToAWholeTorchrunJobSave) {
  if (!fs::exists(IGPT_TORCHRUN)) GTEST_SKIP() << "no torchrun in .venv";
  if (sanitized) GTEST_SKIP() << "Python is not built with the sanitizer";
  const auto content = [&](const std::string& name) {  // of a line that a rank's shell writes
    std::string text;
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!text.ends_with('\n') && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      text = testing::read_bytes(folder_ / name);
    }
    return text.empty() ? -1 : std::stoi(text);
  };
  for (const auto& [signal, name] : {std::pair{SIGUSR1, "USR1"}, std::pair{SIGHUP, "HUP"}}) {
    const std::string job = std::string("job") + name;
    Arguments command{IGPT_TORCHRUN,
                      "--standalone",
                      "--no-python",
                      "--nproc-per-node",
                      "2",
                      "/bin/sh",
                      "-c",  // torchrun would make one $ of two
                      std::string("trap : ") + name +
                          "; /bin/sh -c 'read pid rest </proc/self/stat; echo $pid >$0.pid; exec \"$@\"' $0$RANK "
                          "\"$@\"; echo $? >$0$RANK.status",
                      job};
    for (const auto& argument : endless(training(job))) command.push_back(argument);
    testing::Process process(command, {}, folder_.path());
    ASSERT_TRUE(wait_for(last(job))) << process.err();
    const int first = content(job + "0.pid"), second = content(job + "1.pid");
    for (const int pid : {static_cast<int>(process.pid()), first, second})
      if (pid > 0) ::kill(pid, signal);
    EXPECT_EQ(content(job + "0.status"), 128 + signal) << process.err();
    EXPECT_EQ(content(job + "1.status"), 128 + signal) << process.err();
    EXPECT_NO_THROW(read_checkpoint(last(job)));
  }
}

TEST_F(Parallel, OtherOptionsOrImagesOnARankAreRefusedByAll) {
  const Arguments command = training("other", {"-q"});
  for (const auto& ending : Ranks(2, command, folder_.path(), {}, {{1, {{"--grad_clip", "2"}, folder_.path()}}}).wait())
    expect_one_line(ending, 2, "rank 1: started with other options than rank 0");
  testing::write_tiny_dataset(folder_ / "elsewhere/data", 70);
  for (const auto& ending : Ranks(3, command, folder_.path(), {}, {{2, {{}, folder_ / "elsewhere"}}}).wait())
    expect_one_line(ending, 1, "rank 2 read other images");
  for (const auto& ending : Ranks(2, training("other", {"--batch_size", "1"}), folder_.path()).wait())
    expect_one_line(ending, 2, "--batch_size 1: must be at least 2");
  EXPECT_FALSE(fs::exists(folder_ / "logs"));
}

}  // namespace
}  // namespace igpt
