#include "igpt/runs/run_list.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>

#include "igpt/error.h"
#include "igpt/formats/file_descriptor.h"
#include "igpt/formats/file_lock.h"
#include "igpt/runs/metrics.h"
#include "temporary_folder.h"

namespace igpt::runs {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::write_bytes;

constexpr const char* kHeader = "step,epoch,train_loss,learning_rate,val_loss,val_acc\n";

class RunsTest : public ::testing::Test {
 protected:
  fs::path make(const std::string& name, const std::string& settings, const std::string& metrics = kHeader) const {
    const fs::path run = folder_ / "logs" / name;
    fs::create_directories(run / "checkpoints");
    if (!settings.empty()) write_bytes(run / "hparams.yaml", settings);
    if (!metrics.empty()) write_bytes(run / "metrics.csv", metrics);
    return run;
  }
  std::string refusal(const std::string& run) const {
    try {
      find_run(run, folder_ / "logs");
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }

  testing::TemporaryFolder folder_;
};

const std::string kRows =
    std::string(kHeader) + "50,0,1.5,0.01,,\n100,1,,,0.9,\n100,1,1.0,0.01,,\n150,1,,,0.8,\n200,1,,,0.85,\n";

TEST_F(RunsTest, MetricsAreReadByTheNamesOfTheirColumns) {
  write_bytes(folder_ / "m.csv", "val_acc,step,extra,train_loss\r\n0.5,10,x,\r\n,20,,1.25\r\n");
  const auto rows = read_metrics(folder_ / "m.csv");
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].step, 10);
  EXPECT_EQ(rows[0].val_acc, 0.5);
  EXPECT_FALSE(rows[0].train_loss || rows[0].val_loss);
  EXPECT_EQ(rows[1].train_loss, 1.25);
}

TEST_F(RunsTest, ALastRowThatIsNotWholeIsRefusedOrLeftOut) {
  for (size_t length = 0; length <= kRows.size(); ++length) {
    write_bytes(folder_ / "m.csv", kRows.substr(0, length));
    const auto whole =
        static_cast<size_t>(std::count(kRows.begin(), kRows.begin() + static_cast<std::ptrdiff_t>(length), '\n'));
    const bool is_cut = length > 0 && kRows[length - 1] != '\n';
    if (whole == 0 || is_cut)
      EXPECT_THROW(read_metrics(folder_ / "m.csv"), InputError) << length;
    else
      EXPECT_EQ(read_metrics(folder_ / "m.csv").size(), whole - 1);
    if (whole > 0) {
      EXPECT_EQ(read_metrics(folder_ / "m.csv", Damaged::leave_out).size(), whole - 1) << length;
    }
  }
  write_bytes(folder_ / "m.csv",
              std::string(kHeader) + "8,0,nan,,inf,\nx,0,1,,,\n-5,0,1,,,\n7,0,1,,\n9,0,1e,,,\n\n10,0,1,,,\n");
  EXPECT_THROW(read_metrics(folder_ / "m.csv"), InputError);
  const auto rows = read_metrics(folder_ / "m.csv", Damaged::leave_out);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].step, 8);
  EXPECT_FALSE(rows[0].train_loss || rows[0].val_loss);
  EXPECT_EQ(rows[1].step, 10);
}

TEST_F(RunsTest, TheBestRowIsThatOfTheSmallestLossOrTheLargestAccuracy) {
  const std::vector<MetricsRow> rows{{.step = 1, .val_loss = 2.0, .val_acc = 0.4},
                                     {.step = 2, .val_loss = 1.0, .val_acc = 0.3},
                                     {.step = 3, .train_loss = 0.1}};
  EXPECT_EQ(best_row(rows, /*by_accuracy=*/false)->step, 2);
  EXPECT_EQ(best_row(rows, /*by_accuracy=*/true)->step, 1);
  EXPECT_EQ(best_row({rows[2]}, /*by_accuracy=*/false), nullptr);
}

TEST_F(RunsTest, AStateComesBack) {
  const fs::path run = make("a/version_0", "steps: 5\n");
  EXPECT_FALSE(read_state(run));
  write_state(run, {State::failed, 17, "no \"space\"\nleft"});
  const auto record = read_state(run);
  ASSERT_TRUE(record);
  EXPECT_EQ(record->state, State::failed);
  EXPECT_EQ(record->step, 17);
  EXPECT_EQ(record->reason, "no \"space\"\nleft");
  for (const char* damaged : {"", "{", "[]", "{\"state\":\"x\",\"step\":1}", "{\"state\":\"failed\"}",
                              "{\"state\":\"failed\",\"step\":-1}", "{\"state\":1,\"step\":1}"}) {
    write_bytes(run / "state.json", damaged);
    EXPECT_FALSE(read_state(run)) << damaged;
  }
}

TEST_F(RunsTest, ARunIsDescribedWithoutItsCheckpoints) {
  const fs::path run =
      make("gen/version_3", "name: gen\nsteps: 200\nbatch_size: 16\naccumulate: 2\nclassify: false\n", kRows);
  const RunInfo info = describe_run(run);
  EXPECT_EQ(info.name, "gen");
  EXPECT_EQ(info.version, 3);
  EXPECT_EQ(info.step, 200);
  EXPECT_EQ(info.steps, 200);
  EXPECT_EQ(info.best_step, 150);
  EXPECT_EQ(info.best_score, 0.8);
  EXPECT_EQ(info.state, State::finished);  // of an older version: it says nothing itself
  EXPECT_GE(info.age, 0);
  EXPECT_LT(info.age, 60);
  EXPECT_EQ(read_settings(run).batch_size, 16);
  EXPECT_EQ(read_settings(run).accumulate, 2);
}

TEST_F(RunsTest, TheStateFollowsFromTheLockAndTheTrainingsWords) {
  const fs::path run = make("a/version_0", "steps: 300\n", kRows);
  EXPECT_EQ(describe_run(run).state, State::stopped);  // an older version, before its last step
  for (const State state : {State::finished, State::stopped, State::failed}) {
    write_state(run, {state, 210, "why"});
    EXPECT_EQ(describe_run(run).state, state);
    EXPECT_EQ(describe_run(run).reason, "why");
    EXPECT_EQ(describe_run(run).step, 210);
  }
  write_state(run, {State::training, 0});
  EXPECT_EQ(describe_run(run).state, State::failed);  // it was killed
  EXPECT_THAT(describe_run(run).reason, HasSubstr("killed"));
  {
    const formats::FileDescriptor lock(::open(run.c_str(), O_RDONLY | O_DIRECTORY));
    ASSERT_EQ(formats::try_lock(lock.get(), formats::LockKind::kExclusive), formats::Lock::kTaken);
    EXPECT_EQ(describe_run(run).state, State::training);
    const fs::path begun = make("b/version_0", "", "");
    EXPECT_EQ(describe_run(begun).state, State::failed);
  }
  EXPECT_EQ(describe_run(run).state, State::failed);
}

TEST_F(RunsTest, HalfWrittenFoldersAreListed) {
  make("empty/version_0", "", "");
  make("no_metrics/version_0", "steps: 9\n", "");
  make("cut/version_0", "steps: 9\nclass", std::string(kHeader) + "5,0,1.0,,,\n6,0,0.");
  make("binary/version_0", std::string(100, '\xff'), std::string(1000, '\0'));
  make("no_run/files", "steps: 3\n");
  write_bytes(folder_ / "logs/a_file", "x");
  fs::create_directory(folder_ / "logs/pipe");
  fs::create_directory(folder_ / "logs/pipe/version_0");
  ASSERT_EQ(::mkfifo((folder_ / "logs/pipe/version_0/metrics.csv").c_str(), 0600), 0);
  fs::create_symlink("nowhere", folder_ / "logs/dangling");
  std::vector<std::string> notes;
  const auto runs = list_runs(folder_ / "logs", [&](const std::string& line) { notes.push_back(line); });
  std::map<std::string, RunInfo> by_name;
  for (const auto& run : runs) by_name[run.name] = run;
  EXPECT_EQ(runs.size(), 5U);
  EXPECT_THAT(notes, ElementsAre());
  EXPECT_EQ(by_name["cut"].step, 5);
  EXPECT_EQ(by_name["no_metrics"].steps, 9);
  EXPECT_FALSE(by_name["no_metrics"].step);
  EXPECT_FALSE(by_name["empty"].best_step);
  EXPECT_EQ(by_name["empty"].state, State::failed);
  EXPECT_THAT(by_name["empty"].reason, HasSubstr("neither hparams.yaml nor state.json"));
  write_bytes(folder_ / "logs/cut/version_0/state.json", "{\"state\":\"fin");
  const auto lost = describe_run(folder_ / "logs/cut/version_0");
  EXPECT_EQ(lost.state, State::failed);
  EXPECT_EQ(lost.reason, "its state.json cannot be read");
}

TEST_F(RunsTest, TheNewestRunComesFirst) {
  for (const std::string name : {"a/version_0", "a/version_10", "a/version_9", "b/version_0"}) make(name, "steps: 1\n");
  const auto touch = [&](const std::string& name, int hours) {
    for (const char* file : {"metrics.csv", "hparams.yaml"})
      fs::last_write_time(folder_ / "logs" / name / file, fs::file_time_type::clock::now() - std::chrono::hours(hours));
  };
  touch("a/version_0", 5);
  touch("a/version_10", 2);
  touch("a/version_9", 3);
  touch("b/version_0", 1);
  std::vector<std::string> order;
  for (const auto& run : list_runs(folder_ / "logs")) order.push_back(run.name + std::to_string(run.version));
  EXPECT_THAT(order, ElementsAre("b0", "a10", "a9", "a0"));
  EXPECT_NEAR(list_runs(folder_ / "logs")[3].age, 5 * 3600, 60);
  // The folder of one name is read, too.
  EXPECT_EQ(list_runs(folder_ / "logs/a").size(), 3U);
  EXPECT_EQ(list_runs(folder_ / "logs/a")[0].name, "a");
  EXPECT_THROW(list_runs(folder_ / "none"), Error);
}

TEST_F(RunsTest, ARunIsFoundByNameVersionFolderOrFile) {
  make("gen/version_0", "steps: 1\nbatch_size: 8\n", kRows);
  const fs::path newest = make("gen/version_12", "steps: 1\n", kRows);
  make("gen/version_13", "steps: 1\n", "");  // without losses yet
  write_bytes(folder_ / "published.csv", kRows);
  const fs::path logs = folder_ / "logs";
  EXPECT_EQ(find_run("gen", logs).metrics, newest / "metrics.csv");
  EXPECT_EQ(find_run("gen", logs).label, "gen/version_12");
  EXPECT_EQ(find_run("gen/version_0", logs).settings.batch_size, 8);
  EXPECT_EQ(find_run("gen/version_0/", logs).label, "gen/version_0");
  EXPECT_EQ(find_run(newest.string(), "nowhere").label, "gen/version_12");
  EXPECT_EQ(find_run((newest / "metrics.csv").string(), "nowhere").label, "gen/version_12");
  EXPECT_EQ(find_run((folder_ / "published.csv").string(), logs).label, "published");
  EXPECT_FALSE(find_run((folder_ / "published.csv").string(), logs).has_settings);
}

TEST_F(RunsTest, ARunThatIsNotThereIsToldWhatThereIs) {
  make("gen/version_0", "steps: 1\n", kRows);
  make("clf/version_0", "steps: 1\n", kRows);
  make("empty/version_0", "steps: 1\n", "");
  EXPECT_THAT(refusal("gem"), HasSubstr("gem: no such file, and no run in "));
  EXPECT_THAT(refusal("gem"), HasSubstr("there are clf and gen, see `run list`"));
  EXPECT_THAT(refusal("empty"), HasSubstr("has no metrics.csv"));
}

}  // namespace
}  // namespace igpt::runs
