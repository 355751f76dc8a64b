#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "event_files.h"
#include "igpt/checkpoint/checkpoint.h"
#include "process.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;

class KilledTraining : public ::testing::Test {
 protected:
  KilledTraining() { testing::write_tiny_dataset(folder_ / "data"); }

  static std::vector<std::string> training(const std::string& name) {
    return testing::with_tiny_model({testing::program("run"), "train", "--name", name, "--steps", "6000",
                                     "--checkpoint_interval", "5", "--val_interval", "100", "--batch_size", "16",
                                     "--seed", "3", "--device", "cpu", "--threads", "1"});
  }
  fs::path run_folder(const std::string& name) const { return folder_ / ("logs/" + name + "/version_0"); }
  fs::path last(const std::string& name) const { return run_folder(name) / "checkpoints/last.ckpt"; }

  std::vector<std::string> resumed() const {
    return {testing::program("run"), "train", "--resume", last("killed").string(), "--threads", "1"};
  }

  testing::TemporaryFolder folder_;
};

bool same(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const auto& x, const auto& y) { return torch::equal(x, y); });
}

void expect_published_files_are_whole(const fs::path& run) {
  for (const char* name : {"last.ckpt", "best.ckpt"})
    if (fs::exists(run / "checkpoints" / name)) {
      EXPECT_NO_THROW(read_checkpoint(run / "checkpoints" / name));
    }
  const auto metrics = testing::read_bytes(run / "metrics.csv");
  EXPECT_TRUE(metrics.ends_with("\n"));
  size_t begin = 0;
  for (size_t end; (end = metrics.find('\n', begin)) != std::string::npos; begin = end + 1)
    EXPECT_EQ(std::count(metrics.begin() + static_cast<long>(begin), metrics.begin() + static_cast<long>(end), ','), 5);
}

TEST_F(KilledTraining, ResumedAgainAndAgainEndsBitForBitAsTheUndisturbed) {
  const auto undisturbed = testing::run(training("whole"), {}, folder_.path());
  ASSERT_EQ(undisturbed.exit_code, 0) << undisturbed.err;

  std::mt19937 random(::testing::UnitTest::GetInstance()->random_seed() + 1);
  constexpr int kKills = 30;
  int kills = 0, lives = 0;
  for (bool done = false; !done && lives < 20 * kKills; ++lives) {
    testing::Process process(lives == 0 ? training("killed") : resumed(), {}, folder_.path());
    const auto started = fs::exists(last("killed")) ? fs::last_write_time(last("killed")) : fs::file_time_type::min();
    while (process.running() && (!fs::exists(last("killed")) || fs::last_write_time(last("killed")) == started))
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    if (kills < kKills) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));
      process.signal(SIGKILL);
    }
    const auto ending = process.wait();
    kills += ending.signal == SIGKILL;
    done = ending.signal == 0;
    if (done) {
      EXPECT_EQ(ending.exit_code, 0) << ending.err;
    }
    expect_published_files_are_whole(run_folder("killed"));
  }
  EXPECT_EQ(kills, kKills);

  const auto expected = read_checkpoint(last("whole")), actual = read_checkpoint(last("killed"));
  EXPECT_EQ(actual.global_step, 6000);
  for (size_t i = 0; i < expected.state_dict.size(); ++i)
    EXPECT_TRUE(torch::equal(actual.state_dict[i].second, expected.state_dict[i].second))
        << expected.state_dict[i].first;
  EXPECT_TRUE(same(actual.optimizer->exp_avg, expected.optimizer->exp_avg));
  EXPECT_TRUE(same(actual.optimizer->exp_avg_sq, expected.optimizer->exp_avg_sq));
  EXPECT_FALSE(expected.optimizer->momentum_buffer.empty());
  EXPECT_TRUE(same(actual.optimizer->momentum_buffer, expected.optimizer->momentum_buffer));
  EXPECT_EQ(testing::read_bytes(run_folder("killed") / "metrics.csv"),
            testing::read_bytes(run_folder("whole") / "metrics.csv"));
  EXPECT_EQ(testing::read_as_tensorboard(run_folder("killed")), testing::read_as_tensorboard(run_folder("whole")));
  for (const auto& entry : fs::recursive_directory_iterator(run_folder("killed")))
    EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
}

}  // namespace
}  // namespace igpt
