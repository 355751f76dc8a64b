// What a job that is queued again types, and what is seen of a run before it begins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "npy_floats.h"
#include "process.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using testing::Ending;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TemporaryFolder;

class Queued : public ::testing::Test {
 protected:
  Queued() { testing::write_tiny_dataset(folder_ / "data"); }

  Ending train(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {testing::program("run"), "train", "--device", "cpu", "--threads", "1"});
    return testing::run(testing::with_tiny_model(arguments), {}, folder_.path());
  }
  Ending run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), testing::program("run"));
    return testing::run(arguments, {}, folder_.path());
  }
  std::string text(const std::string& file) const { return testing::read_bytes(folder_ / file); }

  TemporaryFolder folder_;
};

TEST_F(Queued, OneCommandLineBeginsGoesOnAndIsFinished) {
  const std::vector<std::string> job{"--resume",        "last", "--name",        "job", "--seed",  "1",
                                     "--batch_size",    "16",   "--sample_grid", "0",   "--steps", "30",
                                     "--learning_rate", "0.005"};
  const auto first = train(job);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.err, HasSubstr("--resume last: logs has no run of job with a last.ckpt; beginning a new one"));
  const auto again = train(job);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("nothing is left to train: the run is at step 30 of 30"));
  EXPECT_EQ(again.out, first.out);
  auto longer = job;
  longer[11] = "40";
  EXPECT_THAT(train(longer).err, HasSubstr("logs/job/version_0"));
  EXPECT_EQ(folder_.names("logs/job"), std::set<std::string>{"version_0"});
}

TEST_F(Queued, LastIsTheNewestRunOfTheNameOrOfAnyName) {
  for (const char* name : {"a", "b", "a"})
    ASSERT_EQ(train({"--name", name, "--steps", "5", "--seed", "1", "--batch_size", "16"}).exit_code, 0);
  const auto in_seconds = [&](const std::string& run, int seconds) {
    fs::last_write_time(folder_ / "logs" / run / "checkpoints/last.ckpt",
                        fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
  };
  in_seconds("a/version_0", 10), in_seconds("a/version_1", 20), in_seconds("b/version_0", 5);
  fs::create_directories(folder_ / "logs/a/version_2/checkpoints");  // begun and never saved
  const auto of_name = run({"train", "--resume", "last", "--name", "a", "--steps", "6", "--threads", "1"});
  EXPECT_THAT(of_name.err, HasSubstr("writing to logs/a/version_0"));
  in_seconds("a/version_0", 10);
  EXPECT_THAT(run({"train", "--resume", "last", "--steps", "6", "--threads", "1"}).err,
              HasSubstr("writing to logs/b/version_0"));
  EXPECT_THAT(run({"train", "--resume", "last", "--log_dir", "other", "--threads", "1"}).err,
              HasSubstr("run train: --resume last: other has no run with a last.ckpt; to begin one, give it a name"));
}

TEST_F(Queued, AFolderMeansItsLastCheckpoint) {
  ASSERT_EQ(train({"--name", "a", "--steps", "5", "--seed", "1", "--batch_size", "16"}).exit_code, 0);
  const auto resumed = run({"train", "--resume", "logs/a/version_0", "--steps", "6", "--threads", "1"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("writing to logs/a/version_0"));
  for (const char* folder : {"logs/a", "logs/a/version_0/checkpoints", "a", "a/version_0"})
    EXPECT_THAT(run({"train", "--resume", folder, "--steps", "6", "--threads", "1"}).err,
                HasSubstr("nothing is left to train: the run is at step 6 of 6"))
        << folder;
  fs::create_directory(folder_ / "a");  // in the place of the name, and no run
  EXPECT_THAT(run({"train", "--resume", "a", "--steps", "6", "--threads", "1"}).err,
              HasSubstr("nothing is left to train"));
  const auto refused = run({"train", "--resume", "logs", "--threads", "1"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("run train: logs: no run with a checkpoints/last.ckpt to go on from"));
  const auto empty = run({"train", "--resume", "", "--name", "a"});
  EXPECT_EQ(empty.exit_code, 2);
  EXPECT_THAT(empty.err, HasSubstr("--resume \"\": is empty"));
}

TEST_F(Queued, WhereARunLiesIsNoneOfItsOptions) {
  ASSERT_EQ(train({"--name", "a", "--steps", "5", "--seed", "1", "--batch_size", "16"}).exit_code, 0);
  int steps = 5;
  const auto goes_on = [&](const std::string& log_dir, const std::string& name) {
    const auto ending = run({"train", "--resume", "last", "--name", name, "--log_dir", log_dir, "--threads", "1",
                             "--steps", std::to_string(++steps)});
    EXPECT_EQ(ending.exit_code, 0) << ending.err;
    EXPECT_THAT(ending.err, HasSubstr("a/version_0"));
  };
  for (const std::string& log_dir : {std::string("./logs"), std::string("logs/"), (folder_ / "logs").string()})
    goes_on(log_dir, "a");
  fs::rename(folder_ / "logs", folder_ / "moved");
  goes_on("moved", "a");
  fs::rename(folder_ / "moved/a", folder_ / "moved/b");
  const auto renamed = run({"train", "--resume", "last", "--name", "b", "--log_dir", "moved", "--steps", "20"});
  EXPECT_EQ(renamed.exit_code, 0) << renamed.err;
  EXPECT_EQ(folder_.names("moved"), std::set<std::string>{"b"});
}

TEST_F(Queued, AFinishedRunStaysAsItIs) {
  ASSERT_EQ(train({"--name", "a", "--steps", "5", "--seed", "1", "--batch_size", "16"}).exit_code, 0);
  const auto files = folder_.names("logs/a/version_0");
  const auto settings = text("logs/a/version_0/hparams.yaml");
  const auto shorter = run({"train", "--resume", "last", "--steps", "3", "--threads", "1"});
  EXPECT_EQ(shorter.exit_code, 0) << shorter.err;
  EXPECT_THAT(shorter.err, AllOf(HasSubstr("the run is at step 5, and --steps is 3; a larger --steps goes on"),
                                 Not(HasSubstr("writing to"))));
  EXPECT_EQ(folder_.names("logs/a/version_0"), files);
  const auto printed = run({"train", "--resume", "last", "--print_config"});
  EXPECT_THAT(printed.out, ::testing::StartsWith("resume: \"logs/a/version_0/checkpoints/last.ckpt\"\nname: a\n"));
  std::ofstream(folder_ / "config.yaml") << printed.out;
  const auto written = fs::last_write_time(folder_ / "logs/a/version_0/metrics.csv");
  fs::rename(folder_ / "data", folder_ / "elsewhere");  // which a finished run does not need
  EXPECT_THAT(run({"train", "--config", "config.yaml"}).err, HasSubstr("nothing is left to train"));
  fs::rename(folder_ / "elsewhere", folder_ / "data");
  EXPECT_EQ(fs::last_write_time(folder_ / "logs/a/version_0/metrics.csv"), written);
  std::ofstream(folder_ / "logs/a/version_0/state.json") << "{\"state\":\"training\",\"step\":0}";  // was killed
  EXPECT_THAT(run({"list"}).out, HasSubstr("failed"));
  EXPECT_EQ(run({"train", "--resume", "last"}).exit_code, 0);
  EXPECT_EQ(text("logs/a/version_0/hparams.yaml"), settings);
  EXPECT_THAT(run({"list"}).out, HasSubstr("finished  5 of 5"));
  EXPECT_THAT(run({"train", "--resume", "last", "--dry_run", "--threads", "1"}).out,
              HasSubstr("nothing is left to train, a larger --steps goes on"));
}

TEST_F(Queued, AnEarlierCheckpointDoesNotUndoWhatFollowed) {
  ASSERT_EQ(train({"--name", "a", "--steps", "12", "--seed", "1", "--batch_size", "16", "--val_interval", "3",
                   "--save_top_k", "4", "-q"})
                .exit_code,
            0);
  const std::string folder = "logs/a/version_0/checkpoints/";
  const auto files = folder_.names(folder);
  const auto metrics = text("logs/a/version_0/metrics.csv");
  const auto refused = run({"train", "--resume", folder + "step_6.ckpt", "--steps", "9", "--threads", "1"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("step_6.ckpt: is of step 6, and its run has gone on to step 12, which going on "
                                     "from here would undo; resume " +
                                     folder + "last.ckpt, move that away first"));
  EXPECT_EQ(folder_.names(folder), files);
  EXPECT_EQ(text("logs/a/version_0/metrics.csv"), metrics);
  fs::rename(folder_ / (folder + "last.ckpt"), folder_ / "kept.ckpt");
  EXPECT_EQ(run({"train", "--resume", folder + "step_6.ckpt", "--steps", "9", "--threads", "1"}).exit_code, 0);
}

TEST_F(Queued, ADryRunFindsWhatWouldRefuseTheTraining) {
  std::ofstream(folder_ / "file") << "x";
  const auto no_folder = train({"--name", "a", "--log_dir", "file", "--dry_run"});
  EXPECT_EQ(no_folder.exit_code, 1);
  EXPECT_THAT(no_folder.err, HasSubstr("file/a: cannot create the folder"));
  std::vector<std::string> endless{
      testing::program("run"), "train", "--name",   "a",   "--steps",      "100000000", "--seed", "1", "--threads", "1",
      "--checkpoint_interval", "5",     "--device", "cpu", "--batch_size", "16"};
  testing::Process process(testing::with_tiny_model(endless), {}, folder_.path());
  const fs::path last = folder_ / "logs/a/version_0/checkpoints/last.ckpt";
  while (process.running() && !fs::exists(last)) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_THAT(run({"train", "--resume", "last", "--dry_run"}).err, HasSubstr("another program is training"));
  process.signal(SIGKILL);
  process.wait();
}

TEST_F(Queued, OptionsThatTheRunWasNotStartedWithAreRefused) {
  ASSERT_EQ(train({"--name", "a", "--steps", "5", "--seed", "1", "--batch_size", "16"}).exit_code, 0);
  const auto refused = run({"train", "--resume", "last", "--name", "a", "--batch_size", "8", "--threads", "1"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--batch_size 8: a resumed run keeps its options, and "
                                     "logs/a/version_0/checkpoints/last.ckpt was trained with 16"));
  const auto pretrained = run({"train", "--resume", "last", "--name", "a", "--pretrained", "x.ckpt"});
  EXPECT_THAT(pretrained.err, HasSubstr("last.ckpt was trained without this one; leave the option out, or leave "
                                        "--resume out for a new run"));
}

TEST_F(Queued, KeepsTheBestCheckpoints) {
  const std::vector<std::string> options{"--name",         "a", "--seed",       "1", "--batch_size",   "16",
                                         "--val_interval", "5", "--save_top_k", "3", "--log_interval", "3",
                                         "--sample_grid",  "0"};
  auto first = options;
  first.insert(first.end(), {"--steps", "20"});
  ASSERT_EQ(train(first).exit_code, 0);
  const auto resumed = run({"train", "--resume", "last", "--steps", "40", "--threads", "1"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  std::vector<std::pair<double, int>> scores;
  std::istringstream metrics(text("logs/a/version_0/metrics.csv"));
  int training_rows = 0;
  for (std::string line; std::getline(metrics, line);) {
    int step = 0, epoch = 0;
    double loss = 0;
    if (std::sscanf(line.c_str(), "%d,%d,,,%lf,", &step, &epoch, &loss) == 3) scores.emplace_back(loss, step);
    training_rows += std::sscanf(line.c_str(), "%d,%d,%lf,", &step, &epoch, &loss) == 3 && step % 3 == 0;
  }
  EXPECT_EQ(training_rows, 13);
  ASSERT_EQ(scores.size(), 8u);
  std::ranges::sort(scores);
  std::set<std::string> expected{"best.ckpt", "last.ckpt"};
  for (size_t i = 0; i < 3; ++i) expected.insert("step_" + std::to_string(scores[i].second) + ".ckpt");
  EXPECT_EQ(folder_.names("logs/a/version_0/checkpoints"), expected);
  const std::string best = "logs/a/version_0/checkpoints/step_" + std::to_string(scores[0].second) + ".ckpt";
  EXPECT_EQ(run({"test", best, "--device", "cpu"}).out,
            run({"test", "logs/a/version_0/checkpoints/best.ckpt", "--device", "cpu"}).out);
  const auto one = run({"train", "--resume", "last", "--steps", "45", "--save_top_k", "1", "--threads", "1"});
  ASSERT_EQ(one.exit_code, 0) << one.err;
  EXPECT_EQ(folder_.names("logs/a/version_0/checkpoints"), (std::set<std::string>{"best.ckpt", "last.ckpt"}));
}

TEST_F(Queued, PrintedConfigurationIsThatOfTheRun) {
  const std::vector<std::string> options{
      "--name", "a", "--seed", "1", "--steps", "5", "--batch_size", "16", "--augment_flip", "--learning_rate", "0.02"};
  auto printing = options;
  printing.push_back("--print_config");
  const auto printed = train(printing);
  ASSERT_EQ(printed.exit_code, 0) << printed.err;
  EXPECT_FALSE(fs::exists(folder_ / "logs"));
  EXPECT_THAT(printed.out,
              AllOf(HasSubstr("learning_rate: 0.02\n"), HasSubstr("arch: image-gpt\n"),
                    HasSubstr("augment_flip: true\n"), Not(HasSubstr("device")), HasSubstr("warmup_steps: 0\n"),
                    HasSubstr("ema: 0.9975\n"), HasSubstr("# val_interval: an epoch\n"), HasSubstr("seed: 1\n")));
  std::ofstream(folder_ / "config.yaml") << printed.out;
  ASSERT_EQ(run({"train", "--config", "config.yaml", "--device", "cpu", "--threads", "1"}).exit_code, 0);
  ASSERT_EQ(train(options).exit_code, 0);
  EXPECT_EQ(text("logs/a/version_0/hparams.yaml"), text("logs/a/version_1/hparams.yaml"));
}

TEST_F(Queued, APrintedConfigurationIsCheckedAndThatOfTheCheckpoint) {
  ASSERT_EQ(train({"--name", "a", "--steps", "2"}).exit_code, 0);
  const std::string checkpoint = "logs/a/version_0/checkpoints/last.ckpt";
  const auto printed = run({"train", "--name", "b", "--pretrained", checkpoint, "--print_config"});
  ASSERT_EQ(printed.exit_code, 0) << printed.err;
  EXPECT_THAT(printed.out, AllOf(HasSubstr("embed_dim: 8\n"), HasSubstr("# seed: drawn and printed\n")));
  std::ofstream(folder_ / "config.yaml") << printed.out;
  const auto read = run({"train", "--config", "config.yaml", "--steps", "1", "--device", "cpu", "--threads", "1"});
  EXPECT_EQ(read.exit_code, 0) << read.err;
  const auto json = run({"train", "--name", "b", "--print_config", "--json"});
  EXPECT_THAT(json.out, AllOf(HasSubstr("\"learning_rate\":0.01,"), HasSubstr("\"classify\":false,"),
                              Not(HasSubstr("\"seed\""))));
  EXPECT_EQ(run({"train", "--print_config"}).exit_code, 0);  // a name is not needed yet
  const auto refused = run({"train", "--name", "b", "--patience", "3", "--print_config"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--patience: is for --classify"));
}

TEST_F(Queued, DryRunTellsAndWritesNothing) {
  const auto before = folder_.names();
  const auto told = train({"--name", "a", "--steps", "45", "--batch_size", "8", "--dry_run"});
  ASSERT_EQ(told.exit_code, 0) << told.err;
  EXPECT_THAT(told.out, AllOf(HasSubstr("batch_size: 8\n"), HasSubstr("72 to train, 8 to validate"),
                              HasSubstr("steps        0 to 45, 9.0 in an epoch, 5.0 epochs in all")));
  const auto json = train({"--name", "a", "--steps", "45", "--batch_size", "8", "--dry_run", "--json"});
  EXPECT_THAT(json.out, AllOf(HasSubstr("\"train_images\":72"), HasSubstr("\"memory\":"),
                              HasSubstr("\"configuration\":{\"name\":\"a\",")));
  const auto many = train({"--name", "a", "--batch_size", "1000", "--steps", "1", "--dry_run"});
  EXPECT_THAT(many.err, HasSubstr("--batch_size 1000 is more than the 72 images to train"));
  EXPECT_THAT(many.out, HasSubstr("0.0720 in an epoch"));
  EXPECT_EQ(train({"--name", "a", "--train_x", "none.npy", "--dry_run"}).exit_code, 1);
  EXPECT_EQ(folder_.names(), before);
}

TEST_F(Queued, DataDirNamesTheFilesThatAreNotNamed) {
  fs::rename(folder_ / "data", folder_ / "pictures");
  const auto trained = train({"--name", "a", "--steps", "5", "--data_dir", "pictures", "--classify"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  EXPECT_THAT(text("logs/a/version_0/hparams.yaml"), HasSubstr("train_y: pictures/train_y.npy"));
  const std::string checkpoint = "logs/a/version_0/checkpoints/last.ckpt";
  EXPECT_EQ(run({"test", checkpoint, "--data_dir", "pictures/"}).exit_code, 0);
  EXPECT_EQ(run({"probe", checkpoint, "--data_dir", "pictures", "--layer", "0"}).exit_code, 0);
  const auto missing = run({"test", checkpoint, "--data_dir", "pictures", "--test_y", "none.npy"});
  EXPECT_THAT(missing.err, HasSubstr("none.npy: no such file"));
  const auto sampled = testing::run(
      {testing::program("sample"), checkpoint, "--data_dir", "pictures", "--num_samples", "1"}, {}, folder_.path());
  EXPECT_EQ(sampled.exit_code, 0) << sampled.err;
  fs::rename(folder_ / "pictures", folder_ / "moved");
  const auto resumed = run({"train", "--resume", "last", "--steps", "8", "--data_dir", "moved", "--threads", "1"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
}

}  // namespace
}  // namespace igpt
