#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "igpt/training/run_folder.h"
#include "temporary_folder.h"

namespace igpt::training {
namespace {

using testing::read_bytes;
using testing::TemporaryFolder;
using testing::write_bytes;

constexpr const char* kColumns = "step,epoch,train_loss,learning_rate,val_loss,val_acc\n";

TEST(RunMetrics, RowsAreInTheFileAtOnce) {
  const TemporaryFolder folder;
  auto run = RunFolder::create(folder.path(), "run");
  const auto file = run.path() / "metrics.csv";
  EXPECT_EQ(read_bytes(file), kColumns);
  run.add({.step = 50, .epoch = 1, .train_loss = 0.5, .learning_rate = 1e-3});
  EXPECT_EQ(read_bytes(file), std::string(kColumns) + "50,1,0.5,0.001,,\n");
  run.add({.step = 50, .epoch = 1, .val_loss = 0.25, .val_acc = 0.75});
  EXPECT_EQ(read_bytes(file), std::string(kColumns) + "50,1,0.5,0.001,,\n50,1,,,0.25,0.75\n");
}

TEST(RunMetrics, AResumedRunKeepsTheWholeRowsUpToItsStep) {
  const TemporaryFolder folder;
  const auto path = [&] {
    auto run = RunFolder::create(folder.path(), "run");
    run.write_hparams({{"name", "run"}});
    return run.path();
  }();
  for (const char* end : {"150,2,,,0.1,\n", "99,2,0.1,0.", ""}) {
    write_bytes(path / "metrics.csv", std::string(kColumns) + "50,1,0.5,0.001,,\n100,2,0.4,0.001,,\n" + end);
    auto run = RunFolder::reopen(path / "checkpoints" / "last.ckpt", 100);
    EXPECT_EQ(read_bytes(path / "metrics.csv"), std::string(kColumns) + "50,1,0.5,0.001,,\n100,2,0.4,0.001,,\n");
    run.add({.step = 101, .epoch = 2, .val_loss = 0.25});
    EXPECT_TRUE(read_bytes(path / "metrics.csv").ends_with("\n100,2,0.4,0.001,,\n101,2,,,0.25,\n"));
  }
}

}  // namespace
}  // namespace igpt::training
