// What the programs do when the disk is full, the folder read-only, or the hardware fails: one line, status 1, the
// previous file as it was, no litter.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/refusals.h"
#include "apps/trained_model.h"
#include "igpt/data/dataset_folder.h"
#include "igpt/data/sha256.h"
#include "process.h"
#include "sanitized.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;
using igpt::testing::Ending;
using igpt::testing::program;
using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using ::testing::HasSubstr;

/// A failure and the words that name it.
struct Failure {
  const char* call;
  int error;
  int successes;
  const char* words;
};

void PrintTo(const Failure& failure, std::ostream* out) {
  *out << failure.call << " " << std::strerror(failure.error);
}

std::map<std::string, std::string> failing(const Failure& failure, const std::string& path) {
  return {{"LD_PRELOAD", IGPT_FAILING_IO},
          {"IGPT_FAIL", std::string(failure.call) + ":" + path + ":" + std::to_string(failure.error) + ":" +
                            std::to_string(failure.successes)}};
}

/// What one of the programs writes: the command, and the file, a copy of which from before must survive.
struct Output {
  std::string file;
  std::vector<std::string> command;
};

const Output figure{"figure.png", {"sample", "model.ckpt", "-q", "--scale", "9", "-o"}};
const Output tokens{"tokens.npy", {"sample", "model.ckpt", "-q", "--tokens"}};
const Output animation{"out.gif", {"gif", "model.ckpt", "-q", "--scale", "9", "-o"}};
const Output scores{
    "scores.npy",
    {"run", "test", "model.ckpt", "-q", "--test_x", "data/test_x.npy", "--test_y", "data/test_y.npy", "--per_image"}};

class Outputs : public ::testing::Test {
 protected:
  Outputs() {
    testing::write_random_checkpoint(folder_ / "model.ckpt");
    fs::create_directory(folder_ / "data");
    testing::write_random_images(folder_ / "data/test_x.npy", 100);
    formats::write_npy(folder_ / "data/test_y.npy", {100}, std::span<const uint8_t>(std::vector<uint8_t>(100)));
    fs::create_directory(folder_ / "out");
  }

  // The command with its output in out/, behind `prefix`.
  Ending run(const Output& output, const std::map<std::string, std::string>& env = {},
             std::vector<std::string> prefix = {}) {
    write_previous(output);
    prefix.push_back(program(output.command[0]));
    prefix.insert(prefix.end(), output.command.begin() + 1, output.command.end());
    prefix.push_back("out/" + output.file);
    return testing::run(prefix, env, folder_.path());
  }
  void write_previous(const Output& output) {
    if (!fs::exists(folder_ / ("out/" + output.file)))
      testing::write_bytes(folder_ / ("out/" + output.file), previous_);
  }
  // Refused with `words`, and the previous file is there, alone.
  void expect_untouched(const Output& output, const Ending& ending, const std::string& words) {
    const std::string name = output.command[0] == "run" ? "run test" : output.command[0];
    testing::expect_refusal(ending, name, 1, "out/" + output.file + ": ");
    EXPECT_THAT(ending.err, HasSubstr(words));
    EXPECT_EQ(read_bytes(folder_ / ("out/" + output.file)), previous_);
    for (const auto& file : folder_.names("out")) EXPECT_THAT(file, ::testing::Not(::testing::EndsWith(".tmp")));
  }

  TemporaryFolder folder_;
  const std::string previous_ = "the previous file";
};

// A tmpfs of 64 KiB on a folder, where this is allowed.
class SmallDisk {
 public:
  explicit SmallDisk(fs::path folder) : folder_(std::move(folder)) {
    mounted_ = ::mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=64k") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  void fill() const {
    std::ofstream file(folder_ / "filler", std::ios::binary);
    while (file << std::string(1024, 'x') << std::flush) {
    }
  }
  bool make_read_only() const {
    return ::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) == 0;
  }

 private:
  fs::path folder_;
  bool mounted_;
};

TEST_F(Outputs, AFullDiskKeepsThePreviousFile) {
  const SmallDisk disk(folder_ / "out");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a small disk";
  for (const auto& output : {figure, tokens, animation, scores}) write_previous(output);
  disk.fill();
  for (const auto& output : {figure, tokens, animation, scores})
    expect_untouched(output, run(output), "No space left on device; free some space and try again");
}

TEST_F(Outputs, AReadOnlyFolderKeepsThePreviousFile) {
  const SmallDisk disk(folder_ / "out");
  if (!disk.mounted()) GTEST_SKIP() << "may not mount a small disk";
  for (const auto& output : {figure, tokens, animation, scores}) write_previous(output);
  ASSERT_TRUE(disk.make_read_only());
  for (const auto& output : {figure, tokens, animation, scores})
    expect_untouched(output, run(output), "Read-only file system; choose a folder that you may write to");
}

// Writing beyond the limit raises SIGXFSZ, which ends a program that does not care.
TEST_F(Outputs, ALimitOnFilesKeepsThePreviousFile) {
  for (const auto& output : {figure, animation, scores})
    expect_untouched(output, run(output, {}, {"/bin/sh", "-c", "ulimit -f 1; exec \"$0\" \"$@\""}), "File too large");
}

TEST_F(Outputs, DevicesAreNotReplaced) {
  fs::create_symlink("/dev/full", folder_ / "out/full");
  for (const auto& output : {figure, tokens, animation, scores}) {
    const Ending ending = run({"full", output.command});
    EXPECT_EQ(ending.exit_code, 1);
    EXPECT_THAT(ending.err, HasSubstr("out/full: is not a regular file; give the name of a file"));
    EXPECT_TRUE(fs::is_symlink(folder_ / "out/full"));
  }
  struct stat status {};
  ASSERT_EQ(::stat("/dev/full", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
}

TEST_F(Outputs, AFullStandardOutputIsAFailure) {
  for (const auto& output : {figure, animation, scores}) {
    const Ending ending = run(output, {}, {"/bin/sh", "-c", "exec \"$0\" \"$@\" >/dev/full"});
    EXPECT_EQ(ending.exit_code, 1);
    EXPECT_THAT(ending.err, HasSubstr("cannot write the output: No space left on device"));
  }
}

class FailingOutputs : public Outputs, public ::testing::WithParamInterface<Failure> {};

TEST_P(FailingOutputs, KeepThePreviousFile) {
  if (sanitized) GTEST_SKIP() << "a sanitizer wants to be loaded first";
  for (const auto& output : {figure, tokens, animation, scores})
    expect_untouched(output, run(output, failing(GetParam(), "." + output.file + ".")), GetParam().words);
}

INSTANTIATE_TEST_SUITE_P(Calls, FailingOutputs,
                         ::testing::Values(Failure{"open", EACCES, 0, "cannot create: Permission denied; choose"},
                                           Failure{"write", EIO, 0, "cannot write: Input/output error"},
                                           Failure{"fsync", ENOSPC, 0, "cannot write: No space left on device; free"},
                                           Failure{"close", EDQUOT, 0, "cannot write: Disk quota exceeded; free"},
                                           Failure{"rename", EIO, 0, "cannot replace: Input/output error"}));

TEST_F(Outputs, AnInputThatCannotBeReadIsNamed) {
  if (sanitized) GTEST_SKIP() << "a sanitizer wants to be loaded first";
  for (const std::string input : {"model.ckpt", "data/test_x.npy"})
    for (const int successes : {0, 1, 4}) {
      const Ending ending = run(figure, failing({"read", EIO, successes, ""}, input));
      testing::expect_refusal(ending, "sample", 1, input + ": cannot read: Input/output error");
      EXPECT_EQ(read_bytes(folder_ / "out/figure.png"), previous_);
    }
}

// A training that goes on from its last checkpoint and fails to write a file.
class FailingTraining : public ::testing::TestWithParam<Failure> {
 protected:
  FailingTraining() { testing::write_tiny_dataset(folder_ / "data"); }

  Ending train(std::vector<std::string> arguments, const std::map<std::string, std::string>& env = {}) {
    arguments.insert(arguments.begin(), {program("run"), "train", "-q", "--device", "cpu", "--threads", "1"});
    return testing::run(arguments, env, folder_.path());
  }
  TemporaryFolder folder_;
  const std::string run_ = "logs/a/version_0", checkpoints_ = run_ + "/checkpoints";
};

TEST_P(FailingTraining, KeepsTheLastGoodCheckpoints) {
  if (sanitized) GTEST_SKIP() << "a sanitizer wants to be loaded first";
  const Ending first =
      train(testing::with_tiny_model({"--name", "a", "--steps", "4", "--val_interval", "4", "--seed", "3"}));
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const std::string last = checkpoints_ + "/last.ckpt", good = data::sha256(read_bytes(folder_ / last));
  for (const std::string file : {"last.ckpt", "metrics.csv"}) {
    const Ending failed = train({"--resume", last, "--steps", "8"}, failing(GetParam(), "." + file + "."));
    testing::expect_refusal(failed, "run train", 1, file + ": ");
    EXPECT_THAT(failed.err, HasSubstr(GetParam().words));
    if (file == "last.ckpt") {
      EXPECT_EQ(data::sha256(read_bytes(folder_ / last)), good);
    }
    for (const auto& folder : {run_, checkpoints_})
      for (const auto& name : folder_.names(folder)) EXPECT_THAT(name, ::testing::Not(::testing::EndsWith(".tmp")));
  }
  const Ending resumed = train({"--resume", last, "--steps", "8"});
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
}

// What is appended while a training goes on.
TEST_F(Outputs, ARowThatDoesNotFitEndsATrainingAndLeavesWholeRows) {
  if (sanitized) GTEST_SKIP() << "a sanitizer wants to be loaded first";
  testing::write_tiny_dataset(folder_ / "data", /*train_count=*/80, /*num_pixels=*/8);
  const auto ending = testing::run({program("run"), "train", "-q", "--name", "a", "--steps", "4", "--val_interval", "1",
                                    "--num_pixels", "8", "--device", "cpu"},
                                   failing({"write", ENOSPC, 3, ""}, "/metrics.csv"), folder_.path());
  testing::expect_refusal(ending, "run train", 1,
                          "metrics.csv: cannot write: No space left on device; free some space and try again");
  const auto metrics = read_bytes(folder_ / "logs/a/version_0/metrics.csv");
  EXPECT_TRUE(metrics.ends_with("\n"));
  EXPECT_EQ(std::count(metrics.begin(), metrics.end(), '\n'), 1 + 3);
}

TEST_F(Outputs, FoldersThatCannotBeMadeAreNamed) {
  const SmallDisk disk(folder_ / "out");
  if (!disk.mounted() || !disk.make_read_only()) GTEST_SKIP() << "may not mount a small disk";
  testing::write_tiny_dataset(folder_ / "data", /*train_count=*/80, /*num_pixels=*/8);
  const auto at = [&](std::vector<std::string> command) {
    command[0] = program(command[0]);
    return testing::run(command, {}, folder_.path());
  };
  testing::expect_refusal(at({"run", "train", "-q", "--name", "a", "--log_dir", "out/logs", "--num_pixels", "8"}),
                          "run train", 1, "Read-only file system");
  testing::expect_refusal(at({"prepare_data", "-q", "--source", "http://127.0.0.1:1", "--data_dir", "out/data"}),
                          "prepare_data", 1, "Read-only file system");
  EXPECT_TRUE(folder_.names("out").empty());
}

TEST_F(Outputs, EventsThatCannotBeWrittenEndATrainingOnOneLine) {
  if (sanitized) GTEST_SKIP() << "a sanitizer wants to be loaded first";
  testing::write_tiny_dataset(folder_ / "data", /*train_count=*/80, /*num_pixels=*/8);
  const auto ending = testing::run({program("run"), "train", "-q", "--name", "a", "--steps", "4", "--num_pixels", "8"},
                                   failing({"write", ENOSPC, 1, ""}, "events.out"), folder_.path());
  testing::expect_refusal(ending, "run train", 1, "No space left on device");
  EXPECT_THAT(ending.err, HasSubstr("events.out.tfevents."));
}

INSTANTIATE_TEST_SUITE_P(Calls, FailingTraining,
                         ::testing::Values(Failure{"write", ENOSPC, 0, "cannot write: No space left on device; free"},
                                           Failure{"fsync", EIO, 0, "cannot write: Input/output error"},
                                           Failure{"rename", EROFS, 0, "cannot replace: Read-only file system"}));

TEST(FailingDataset, KeepsTheOldSet) {
  if (sanitized) GTEST_SKIP() << "a sanitizer wants to be loaded first";
  if (!fs::exists("/usr/share/datasets/fashion-mnist")) GTEST_SKIP() << "without the package dataset-fashion-mnist";
  const TemporaryFolder folder;
  const std::vector<std::string> command = {program("prepare_data"), "--fashion", "-q"};
  ASSERT_EQ(testing::run(command, {}, folder.path()).exit_code, 0);
  const auto sums = [&] {
    std::map<std::string, std::string> result;
    for (const auto& name : folder.names("data"))
      if (fs::is_regular_file(folder / ("data/" + name)))
        result[name] = data::sha256(read_bytes(folder / ("data/" + name)));
    return result;
  };
  const auto before = sums();
  auto again = command;
  again.insert(again.end(), {"--force", "--dtype", "int64"});
  for (const Failure& failure : {Failure{"write", ENOSPC, 100, "cannot write: No space left on device; free"},
                                 Failure{"fsync", EIO, 1, "cannot write: Input/output error"},
                                 Failure{"open", EROFS, 2, "cannot create: Read-only file system"},
                                 Failure{"rename", EIO, 0, "Input/output error"}}) {
    testing::expect_refusal(testing::run(again, failing(failure, ".incoming"), folder.path()), "prepare_data", 1,
                            failure.words);
    EXPECT_EQ(sums(), before);
    EXPECT_FALSE(fs::exists(folder / "data/.incoming"));
    EXPECT_FALSE(fs::exists(folder / "data/.ready"));
  }
  const Ending limited = testing::run({"/bin/sh", "-c", "ulimit -f 1000; exec \"$0\" \"$@\"", again[0], again[1],
                                       again[2], again[3], again[4], again[5]},
                                      {}, folder.path());
  testing::expect_refusal(limited, "prepare_data", 1, "File too large");
  EXPECT_EQ(sums(), before);
}

}  // namespace
}  // namespace igpt
