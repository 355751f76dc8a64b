#include "igpt/training/restart.h"

#include <gtest/gtest.h>

#include <fstream>

#include "temporary_folder.h"

namespace igpt::training {
namespace {

namespace fs = std::filesystem;

class JobRecordOf : public ::testing::Test {
 protected:
  JobRecordOf() {
    fs::create_directories(run_);
    std::ofstream(run_ / "hparams.yaml") << "{}";
    record(first_).remember(run_);
  }
  JobRecord record(const DistributedContext& launch) const { return {launch, folder_ / "name"}; }

  testing::TemporaryFolder folder_;
  fs::path run_ = folder_ / "name/version_0";
  DistributedContext first_{.job = "torchrun a", .launcher = "host 12 345"};
};

TEST_F(JobRecordOf, AJobStartedAgainHasItsRun) {
  auto again = first_;
  again.restarts = 1;
  again.launcher = "other 1 2";  // its first machine is gone
  EXPECT_EQ(record(again).run(), run_);
  EXPECT_EQ(record(again).run(), run_);
}

TEST_F(JobRecordOf, RestartsThatAreNotCountedHaveTheSameLauncher) {
  EXPECT_EQ(record(first_).run(), run_);
}

TEST_F(JobRecordOf, ALaterJobOfTheSameNameBeginsItsOwnRun) {
  auto later = first_;
  later.launcher = "host 13 999";
  EXPECT_EQ(record(later).run(), "");
  later.restarts = 1;  // it died before it had a folder
  EXPECT_EQ(record(later).run(), "");
}

TEST_F(JobRecordOf, AnotherJobHasNone) {
  DistributedContext other{.job = "torchrun b", .launcher = first_.launcher, .restarts = 1};
  EXPECT_EQ(record(other).run(), "");
}

TEST_F(JobRecordOf, ARunThatIsGoneIsNone) {
  fs::remove_all(run_);
  EXPECT_EQ(record(first_).run(), "");
}

TEST_F(JobRecordOf, WithoutALauncherNothingIsWritten) {
  fs::remove(folder_ / "name/.job");
  record({}).remember(run_);
  EXPECT_FALSE(fs::exists(folder_ / "name/.job"));
}

}  // namespace
}  // namespace igpt::training
