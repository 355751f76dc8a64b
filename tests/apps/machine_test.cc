// What the programs do on the machines that they come to: file systems without locks, links, limits, terminals that are
// closed, batch systems' signals and variables.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cmath>

#include "apps/refusals.h"
#include "apps/trained_model.h"
#include "igpt/stop_signals.h"
#include "process.h"
#include "sanitized.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;
using igpt::testing::Ending;
using igpt::testing::Process;
using igpt::testing::program;
using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Arguments = std::vector<std::string>;

Arguments joined(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++found;
  return found;
}

class Machine : public ::testing::Test {
 protected:
  Machine() {
    testing::write_tiny_dataset(folder_ / "data");
    testing::write_tiny_dataset(folder_ / "larger", /*train_count=*/80, /*num_pixels=*/8, /*num_vocab=*/16);
    testing::write_random_checkpoint(folder_ / "model.ckpt");
  }

  static Arguments training(const std::string& name, const Arguments& more = {}) {
    return joined(testing::with_tiny_model({program("run"), "train", "--name", name, "--steps", "20", "--val_interval",
                                            "10", "--seed", "3", "--device", "cpu"}),
                  more);
  }
  static Arguments endless(const std::string& name) {
    return training(name, {"--steps", "100000000", "--checkpoint_interval", "5", "--threads", "1"});
  }
  static Arguments resume(const std::string& checkpoint, const std::string& steps = "40") {
    return {program("run"), "train", "--resume", checkpoint, "--steps", steps, "--threads", "1"};
  }
  static Arguments sampling(const Arguments& more = {}) {
    return joined({program("sample"), "model.ckpt", "--test_x", "larger/test_x.npy", "--num_examples", "1",
                   "--num_samples", "1", "--device", "cpu"},
                  more);
  }
  static Arguments scoring(const Arguments& more = {}) {
    return joined({program("run"), "test", "model.ckpt", "--test_x", "larger/test_x.npy", "--device", "cpu"}, more);
  }
  static Arguments drawing(const Arguments& more = {}) {
    return joined({program("gif"), "model.ckpt", "--rows", "1", "--cols", "1", "--device", "cpu"}, more);
  }
  // Behind the shell's `commands`, which end with what runs "$@".
  static Arguments shell(const std::string& commands, const Arguments& arguments) {
    return joined({"/bin/sh", "-c", commands, "sh"}, arguments);
  }

  Ending run(const Arguments& arguments, const std::map<std::string, std::string>& variables = {},
             const fs::path& place = {}) const {
    return testing::run(arguments, variables, place.empty() ? folder_.path() : place);
  }
  static std::map<std::string, std::string> failing(const std::string& plan) {
    return {{"LD_PRELOAD", IGPT_FAILING_IO}, {"IGPT_FAIL", plan}};
  }

  fs::path run_of(const std::string& name) const { return folder_ / ("logs/" + name + "/version_0"); }
  fs::path last(const std::string& name) const { return run_of(name) / "checkpoints/last.ckpt"; }
  bool wait_for(Process& process, const fs::path& file) const {
    while (process.running() && !fs::exists(file)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return fs::exists(file);
  }
  static bool wait_for_words(Process& process, const std::string& words) {
    while (process.running() && process.err().find(words) == std::string::npos)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return process.err().find(words) != std::string::npos;
  }

  TemporaryFolder folder_;
};

TEST_F(Machine, FileSystemsWithoutLocksAreUsedWithOneNote) {
  if (sanitized) GTEST_SKIP() << "a sanitizer wants to be loaded first";
  testing::write_bytes(folder_ / "data/.lock", "");
  const std::string words = "its file system cannot lock files (";
  constexpr int kNoSuchOperation = 524;
  for (const int error : {ENOSYS, ENOLCK, EOPNOTSUPP, kNoSuchOperation}) {
    const auto trained = run(training("a", {"--threads", "1"}), failing("flock::" + std::to_string(error) + ":0"));
    EXPECT_EQ(trained.exit_code, 0) << trained.err;
    EXPECT_EQ(count(trained.err, words), 1u) << trained.err;
    EXPECT_THAT(trained.err, Not(HasSubstr("Unknown error")));
  }
  EXPECT_THAT(run(training("b", {"--threads", "1"}), failing("flock:logs:38:0")).err, HasSubstr(words));
  testing::write_bytes(folder_ / "larger/.lock", "");
  EXPECT_THAT(run(sampling(), failing("flock:larger:38:0")).err, HasSubstr(words));
  EXPECT_THAT(run(scoring(), failing("flock:larger:38:0")).err, HasSubstr(words));
  EXPECT_EQ(run(sampling({"-q"}), failing("flock:larger:38:0")).err, "");
  if (!fs::exists("/usr/share/datasets/fashion-mnist")) GTEST_SKIP() << "without the package dataset-fashion-mnist";
  const auto prepared = run({program("prepare_data"), "--fashion", "--force"}, failing("flock::38:0"));
  EXPECT_EQ(prepared.exit_code, 0) << prepared.err;
  EXPECT_EQ(count(prepared.err, words), 1u) << prepared.err;
}

TEST_F(Machine, OutputsThatAreLinksAreWrittenThroughThem) {
  fs::create_directories(folder_ / "elsewhere");
  for (const std::string name : {"figure.png", "tokens.npy", "out.gif", "nats.npy"})
    fs::create_symlink("elsewhere/" + name, folder_ / name);
  testing::write_bytes(folder_ / "elsewhere/out.gif", "the previous one");
  for (const auto& command : {sampling({"-o", "figure.png", "--tokens", "tokens.npy"}), drawing({"-o", "out.gif"}),
                              scoring({"--per_image", "nats.npy"})}) {
    const auto ending = run(command);
    EXPECT_EQ(ending.exit_code, 0) << ending.err;
  }
  for (const std::string name : {"figure.png", "tokens.npy", "out.gif", "nats.npy"})
    EXPECT_TRUE(fs::is_symlink(folder_ / name)) << name;
  EXPECT_EQ(folder_.names("elsewhere"), (std::set<std::string>{"figure.png", "nats.npy", "out.gif", "tokens.npy"}));
  EXPECT_THAT(read_bytes(folder_ / "elsewhere/out.gif"), ::testing::StartsWith("GIF89a"));
  EXPECT_THAT(read_bytes(folder_ / "elsewhere/figure.png"), ::testing::StartsWith("\x89PNG"));
  fs::create_symlink("round", folder_ / "round");
  testing::expect_refusal(run(drawing({"-o", "round", "-q"})), "gif", 1, "round: cannot follow the link");
}

TEST_F(Machine, ARunsFilesThatAreLinksAreWrittenThroughThem) {
  ASSERT_EQ(run(training("a", {"--threads", "1"})).exit_code, 0);
  fs::create_directories(folder_ / "store");
  const auto moved = [&](const fs::path& file) {
    fs::rename(file, folder_ / "store" / file.filename());
    fs::create_symlink(folder_ / "store" / file.filename(), file);
  };
  for (const auto& file : {last("a"), run_of("a") / "checkpoints/best.ckpt", run_of("a") / "metrics.csv"}) moved(file);
  const auto ending = run(resume("logs/a/version_0/checkpoints/last.ckpt"));
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_TRUE(fs::is_symlink(last("a")));
  EXPECT_TRUE(fs::is_symlink(run_of("a") / "metrics.csv"));
  EXPECT_EQ(read_checkpoint(folder_ / "store/last.ckpt").global_step, 40);
  EXPECT_THAT(read_bytes(folder_ / "store/metrics.csv"), HasSubstr("\n40,"));
  EXPECT_EQ(folder_.names("store").size(), 3u);
}

// docker run -v FILE:FILE
TEST_F(Machine, FilesThatAreMountedByThemselvesAreRefusedBeforeTheWork) {
  ASSERT_EQ(run(training("a", {"--threads", "1"})).exit_code, 0);
  testing::write_bytes(folder_ / "outside", "old");
  const auto mounted = [&](const fs::path& file) {
    if (!fs::exists(file)) testing::write_bytes(file, "");
    return ::mount((folder_ / "outside").c_str(), file.c_str(), nullptr, MS_BIND, nullptr) == 0;
  };
  if (!mounted(folder_ / "out")) GTEST_SKIP() << "may not mount";
  const std::string words = ": is mounted by itself (docker run -v FILE:FILE)";
  // What would take longer than the test may.
  testing::expect_refusal(run(sampling({"-o", "out", "--num_samples", "1000", "--num_examples", "20"})), "sample", 1,
                          "out" + words);
  testing::expect_refusal(run(sampling({"--tokens", "out", "--num_samples", "1000", "--num_examples", "20"})), "sample",
                          1, "out" + words);
  testing::expect_refusal(run(drawing({"-o", "out"})), "gif", 1, "out" + words);
  testing::expect_refusal(run(scoring({"--per_image", "out"})), "run test", 1, "out" + words);
  ::umount2((folder_ / "out").c_str(), MNT_DETACH);
  for (const auto& file : {run_of("a") / "checkpoints/best.ckpt", run_of("a") / "metrics.csv"}) {
    ASSERT_TRUE(mounted(file));
    testing::expect_refusal(run(joined(resume(last("a").string()), {"-q"})), "run train", 1,
                            file.filename().string() + words);
    ::umount2(file.c_str(), MNT_DETACH);
  }
  fs::remove(folder_ / "data/dataset.yaml");
  ASSERT_TRUE(mounted(folder_ / "data/test_y.npy"));
  testing::expect_refusal(run({program("prepare_data"), "-q", "--source", "http://127.0.0.1:1"}), "prepare_data", 1,
                          "data/test_y.npy" + words);
  ::umount2((folder_ / "data/test_y.npy").c_str(), MNT_DETACH);
  EXPECT_EQ(read_bytes(folder_ / "outside"), "old");
}

TEST_F(Machine, ARunIsResumedWhateverLeadsToItsCheckpoint) {
  ASSERT_EQ(run(training("a", {"--threads", "1", "--train_x", (folder_ / "data/train_x.npy").string()})).exit_code, 0);
  fs::create_directories(folder_ / "shortcuts");
  fs::create_symlink("../logs/a/version_0/checkpoints/last.ckpt", folder_ / "shortcuts/newest.ckpt");
  fs::create_symlink("newest.ckpt", folder_ / "shortcuts/link_to_link.ckpt");
  fs::create_directory_symlink(run_of("a"), folder_ / "shortcuts/newest_run");
  fs::create_directory_symlink(run_of("a") / "checkpoints", folder_ / "shortcuts/newest_checkpoints");
  const std::vector<std::pair<std::string, std::string>> ways{
      {"logs/a/version_0/checkpoints", "last.ckpt"},
      {"logs/a/version_0/checkpoints", "./last.ckpt"},
      {"logs/a/version_0", "checkpoints/last.ckpt"},
      {"logs/a/version_0", "checkpoints/./last.ckpt"},
      {"logs/a/version_0/checkpoints", "../checkpoints/last.ckpt"},
      {"logs/a", "version_0/../version_0//checkpoints/last.ckpt"},
      {"shortcuts", "newest.ckpt"},
      {"shortcuts", "link_to_link.ckpt"},
      {"shortcuts", "newest_run/checkpoints/last.ckpt"},
      {"shortcuts", "./newest_run/checkpoints/../checkpoints/last.ckpt"},
      {"shortcuts", "newest_checkpoints/last.ckpt"},
      {"data", (folder_ / "shortcuts/newest_checkpoints/last.ckpt").string()}};
  int64_t steps = 20;
  const std::map<std::string, std::string> job{{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"TORCHELASTIC_RUN_ID", "job7"}};
  for (const auto& [place, way] : ways) {
    steps += 2;
    const auto ending = run(resume(way, std::to_string(steps)), job, folder_ / place);
    ASSERT_EQ(ending.exit_code, 0) << place << " " << way << ": " << ending.err;
    EXPECT_EQ(read_checkpoint(last("a")).global_step, steps) << place << " " << way;
    EXPECT_THAT(read_bytes(run_of("a") / "metrics.csv"), HasSubstr("\n" + std::to_string(steps) + ","));
  }
  fs::rename(run_of("a") / "checkpoints", folder_ / "scratch");
  fs::create_directory_symlink(folder_ / "scratch", run_of("a") / "checkpoints");
  const auto ending = run(resume("logs/a/version_0/checkpoints/last.ckpt", std::to_string(steps + 2)), job);
  EXPECT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_EQ(read_checkpoint(folder_ / "scratch/last.ckpt").global_step, steps + 2);
  EXPECT_TRUE(fs::is_symlink(run_of("a") / "checkpoints"));
  EXPECT_EQ(folder_.names("logs/a"), (std::set<std::string>{".job", "version_0"}));
  EXPECT_FALSE(folder_.names("shortcuts").contains(".job"));
  EXPECT_FALSE(folder_.names().contains(".job"));
}

TEST_F(Machine, ARunWithoutItsSettingsIsNotResumed) {
  ASSERT_EQ(run(training("a", {"--threads", "1"})).exit_code, 0);
  fs::remove(run_of("a") / "hparams.yaml");
  const auto ending = run(joined(resume("logs/a/version_0/checkpoints/last.ckpt"), {"-q"}));
  testing::expect_refusal(ending, "run train", 1, "logs/a/version_0/hparams.yaml: no such file");
  EXPECT_THAT(ending.err,
              AllOf(HasSubstr("put it back"), HasSubstr("--pretrained logs/a/version_0/checkpoints/last.ckpt")));
  fs::copy(last("a"), folder_ / "copy.ckpt");
  testing::expect_refusal(run(joined(resume("copy.ckpt"), {"-q"})), "run train", 1,
                          "copy.ckpt: does not lie in a run's folder");
}

class MachineSignal : public Machine, public ::testing::WithParamInterface<int> {};

TEST_P(MachineSignal, SavesStopsAndIsNamed) {
  Process process(endless("a"), {}, folder_.path());
  ASSERT_TRUE(wait_for(process, last("a"))) << process.err();
  process.signal(GetParam());
  const auto ending = process.wait();
  EXPECT_EQ(ending.exit_code, 128 + GetParam()) << ending.err;
  EXPECT_THAT(ending.err, ::testing::EndsWith("run train: interrupted by " + name_of_signal(GetParam()) +
                                              " after step " + std::to_string(read_checkpoint(last("a")).global_step) +
                                              "; to go on: run train --resume "
                                              "logs/a/version_0/checkpoints/last.ckpt\n"));
}

INSTANTIATE_TEST_SUITE_P(All, MachineSignal, ::testing::Values(SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU),
                         [](const auto& test) { return name_of_signal(test.param); });

TEST_F(Machine, WhatToTypeNextIsQuotedForAShell) {
  Process process(endless("it's a"), {}, folder_.path());
  ASSERT_TRUE(wait_for(process, last("it's a"))) << process.err();
  process.signal(SIGINT);
  EXPECT_THAT(process.wait().err,
              ::testing::EndsWith("run train --resume 'logs/it'\\''s a/version_0/checkpoints/last.ckpt'\n"));
}

TEST_F(Machine, WhatTheParentIgnoresStaysIgnored) {
  Process process(shell("trap '' HUP USR1; exec \"$@\"", endless("a")), {}, folder_.path());
  ASSERT_TRUE(wait_for(process, last("a"))) << process.err();
  process.signal(SIGHUP);
  process.signal(SIGUSR1);
  const auto written = fs::last_write_time(last("a"));
  while (process.running() && fs::last_write_time(last("a")) == written)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().exit_code, 143);
}

TEST_F(Machine, AReaderOfTheLogThatGoesAwayDoesNotStopATraining) {
  const auto log_only = run(shell("{ \"$@\" 2>&3 >out; echo $? >status; } 3>&1 | head -n 1", training("a", {"-v"})));
  EXPECT_EQ(log_only.exit_code, 0);
  EXPECT_EQ(read_bytes(folder_ / "status"), "0\n");
  EXPECT_THAT(read_bytes(folder_ / "out"), HasSubstr("best.ckpt: step"));
  EXPECT_EQ(read_checkpoint(last("a")).global_step, 20);
  // Its result cannot be told any more.
  run(shell("{ \"$@\" 2>&1; echo $? >status; } | true", training("b")));
  EXPECT_EQ(read_bytes(folder_ / "status"), "1\n");
  EXPECT_EQ(read_checkpoint(last("b")).global_step, 20);
}

// Ctrl-C goes to the whole group: the reader dies first, and what is told while saving reaches nobody.
TEST_F(Machine, InterruptedTogetherWithTheReaderOfItsLogItSaves) {
  if (!fs::exists("/usr/bin/setsid")) GTEST_SKIP() << "without setsid";
  Process group(joined({"/usr/bin/setsid"},
                       shell("trap : INT; { trap : INT; \"$@\"; echo $? >status; } 2>&1 | tee log", endless("a"))),
                {}, folder_.path());
  ASSERT_TRUE(wait_for(group, last("a"))) << group.err();
  ::kill(-group.pid(), SIGINT);
  group.wait();
  while (!fs::exists(folder_ / "status") || read_bytes(folder_ / "status").empty())
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_EQ(read_bytes(folder_ / "status"), "130\n");
  const auto resumed = run(resume(last("a").string(), std::to_string(read_checkpoint(last("a")).global_step + 5)));
  EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
}

TEST_F(Machine, MoreThreadsThanCoresAreLoweredToThem) {
  for (const auto& command : {training("a"), sampling(), drawing(), scoring()}) {
    const auto ending = run(joined(command, {"--threads", "4096"}));
    EXPECT_EQ(ending.exit_code, 0) << ending.err;
    EXPECT_EQ(count(ending.err, "--threads 4096: this process may use "), 1u) << ending.err;
  }
  const auto one = run(joined({"/usr/bin/taskset", "1"}, training("b", {"--threads", "2", "-v"})));
  if (one.exit_code == 127) GTEST_SKIP() << "without taskset";
  EXPECT_THAT(one.err, AllOf(HasSubstr("--threads 2: this process may use 1 core,"), HasSubstr("1 CPU thread\n")));
  EXPECT_THAT(run(training("c", {"--threads", "1"})).err, Not(HasSubstr("--threads")));
}

TEST_F(Machine, ALimitOnProcessesIsNamed) {
  if (sanitized) GTEST_SKIP() << "a sanitizer wants to be loaded first";
  const auto ending = run(training("a", {"-q", "--threads", "2"}), failing("pthread_create::11:0"));
  if (std::thread::hardware_concurrency() > 1) {
    testing::expect_refusal(ending, "run train", 1, "only 1 of 2 threads can be started: the limit on processes");
    EXPECT_THAT(ending.err, HasSubstr("is reached; raise it, stop other programs, or use --threads 1\n"));
  }
  if (!fs::exists("/usr/share/datasets/fashion-mnist")) GTEST_SKIP() << "without the package dataset-fashion-mnist";
  testing::expect_refusal(run({program("prepare_data"), "--fashion", "-q", "--force"}, failing("pthread_create::11:0")),
                          "prepare_data", 1, "cannot start a thread: the limit on processes");
}

// From what cannot load LibTorch to what suffices, each limit ends with one line that names it, or with success.
TEST_F(Machine, ALimitOnMemoryIsNamed) {
  if (sanitized) GTEST_SKIP() << "a sanitizer takes terabytes of address space";
  testing::write_tiny_dataset(folder_ / "many", /*train_count=*/400'000);
  const auto limited = [&](int mebibytes, const Arguments& command) {
    return run(shell("ulimit -v " + std::to_string(mebibytes << 10) + "; exec \"$@\"", command));
  };
  int refused = 0, loaded = 0;
  for (const int mebibytes : {50, 200, 330, 370, 390, 410, 450, 480, 520, 900}) {
    const auto limit = "(ulimit -v allows " + std::to_string(mebibytes) + " MiB)";
    const auto train = training("a", {"-q", "--sample_grid", "0", "--train_x", "many/train_x.npy", "--steps", "2"});
    for (const auto& command : {train, drawing({"-q"})}) {
      const auto ending = limited(mebibytes, command);
      if (ending.exit_code == 0) {
        ++loaded;
        continue;
      }
      ++refused;
      testing::expect_refusal(ending, command == train ? "run train" : "gif", 1, limit);
    }
  }
  EXPECT_GT(refused, 6);
  EXPECT_GT(loaded, 1);
}

TEST_F(Machine, PrepareDataWithoutMemoryNamesTheLimit) {
  if (sanitized) GTEST_SKIP() << "a sanitizer takes terabytes of address space";
  if (!fs::exists("/usr/share/datasets/fashion-mnist")) GTEST_SKIP() << "without the package dataset-fashion-mnist";
  int refused = 0;
  // With less than 60 MiB the dynamic linker has no room for the libraries.
  for (int mebibytes = 60; mebibytes <= 200; mebibytes += 20) {
    const auto ending = run(shell("ulimit -v " + std::to_string(mebibytes << 10) + "; exec \"$@\"",
                                  {program("prepare_data"), "--fashion", "--force", "-q", "--data_dir", "made"}));
    if (ending.exit_code == 0) continue;
    ++refused;
    testing::expect_refusal(ending, "prepare_data", 1, "(ulimit -v allows " + std::to_string(mebibytes) + " MiB)");
  }
  EXPECT_GT(refused, 1);
}

TEST_F(Machine, LibrariesThatMayNotRunAreNamed) {
  fs::create_directory(folder_ / "noexec");
  if (::mount("tmpfs", (folder_ / "noexec").c_str(), "tmpfs", MS_NOEXEC, nullptr) != 0) GTEST_SKIP() << "may not mount";
  const auto library = fs::path(IGPT_PROGRAMS).parent_path() / "lib/libigpt.so";
  fs::copy(library, folder_ / "noexec/libigpt.so");
  const auto ending = run(scoring({"-q"}), {{"LD_LIBRARY_PATH", folder_ / "noexec"}});
  ::umount2((folder_ / "noexec").c_str(), MNT_DETACH);
  testing::expect_refusal(ending, "run test", 1, "libigpt.so: failed to map segment");
  EXPECT_THAT(ending.err, HasSubstr("mounted noexec, so that nothing on it can run; install elsewhere"));
}

TEST_F(Machine, AModelOfTerabytesIsRefusedBeforeItIsMade) {
  const auto ending = run({program("run"), "train", "--name", "a", "-q", "--num_pixels", "4", "--num_vocab", "4",
                           "--embed_dim", "1000000", "--device", "cpu"});
  testing::expect_refusal(ending, "run train", 1,
                          "--embed_dim 1000000: the model would have 96000141000010 parameters");
  EXPECT_THAT(ending.err, HasSubstr("1920002820000200 bytes (1746.2 TiB)"));
  EXPECT_LT(ending.peak_memory, uint64_t{1} << 30);
  testing::expect_refusal(run(training("a", {"-q", "--num_classes", "1000000", "--embed_dim", "100000"})), "run train",
                          1, "--embed_dim 100000: ");
  EXPECT_FALSE(fs::exists(folder_ / "logs"));
}

TEST_F(Machine, ADeletedCurrentFolderIsNamed) {
  for (const auto& [name, command] : {std::pair<std::string, Arguments>{"run train", training("a", {"-q"})},
                                      {"sample", {program("sample"), "../model.ckpt", "-q"}},
                                      {"gif", {program("gif"), "model.ckpt", "-q"}},
                                      {"prepare_data", {program("prepare_data"), "-q"}}}) {
    const auto ending = run(shell("mkdir gone; cd gone; rmdir ../gone; exec \"$@\"", command));
    testing::expect_refusal(ending, name, 1, "the current folder has been deleted; change to one that exists (cd)");
  }
}

TEST_F(Machine, ATaskWithoutItsPartnersSaysSoAndHowToRunAlone) {
  const std::map<std::string, std::string> slurm{
      {"SLURM_STEP_ID", "0"},        {"SLURM_STEPID", "0"},  {"SLURM_STEP_NUM_TASKS", "4"},
      {"SLURM_NTASKS", "4"},         {"SLURM_PROCID", "0"},  {"SLURM_LOCALID", "0"},
      {"SLURM_STEP_NUM_NODES", "1"}, {"SLURM_JOB_ID", "77"}, {"SLURM_STEP_NODELIST", "here"}};
  const std::map<std::string, std::string> torchrun{
      {"RANK", "0"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "29987"}};
  for (const auto& variables : {slurm, torchrun}) {
    const auto started = std::chrono::steady_clock::now();
    Process process(training("waits"), variables, folder_.path());
    ASSERT_TRUE(wait_for_words(process, "rank 0 of 4 waits for ranks 1 to 3 at ")) << process.err();
    EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(30));
    process.signal(SIGTERM);
    const auto ending = process.wait();
    EXPECT_EQ(ending.exit_code, 143);
    const std::string advice = "alone, type: ";
    const auto at = ending.err.find(advice);
    ASSERT_NE(at, std::string::npos) << ending.err;
    const auto cure = ending.err.substr(at + advice.size(), ending.err.find('\n', at) - at - advice.size());
    const auto alone = run(shell(cure + "; exec \"$@\"", training("alone")), variables);
    EXPECT_EQ(alone.exit_code, 0) << alone.err;
  }
}

}  // namespace
}  // namespace igpt
