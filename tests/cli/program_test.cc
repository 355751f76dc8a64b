#include "igpt/cli/program.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "igpt/cli/signals.h"
#include "igpt/error.h"
#include "igpt/stop_signals.h"
#include "sanitized.h"
#include "temporary_folder.h"

namespace igpt::cli {
namespace {

using igpt::testing::TemporaryFolder;
using ::testing::ExitedWithCode;
using ::testing::HasSubstr;

std::string what(const std::function<void()>& call) {
  try {
    call();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

TEST(RunProgramDeathTest, StatusSaysHowItEnded) {
  EXPECT_EXIT(run_program("sample", [] { return 0; }), ExitedWithCode(0), "^$");
  EXPECT_EXIT(run_program("sample", []() -> int { throw UsageError("--fps nan: must be a number"); }),
              ExitedWithCode(2), "^sample: --fps nan: must be a number; try `sample --help`\n$");
  EXPECT_EXIT(run_program("sample", []() -> int { throw InputError("a.ckpt: is a folder"); }), ExitedWithCode(1),
              "^sample: a.ckpt: is a folder\n$");
  EXPECT_EXIT(run_program("sample", []() -> int { throw std::bad_alloc(); }), ExitedWithCode(1),
              "^sample: out of memory");
  EXPECT_EXIT(run_program("sample", []() -> int { throw std::runtime_error("first\nframe #0"); }), ExitedWithCode(1),
              "^sample: first\n$");
  EXPECT_EXIT(run_program("sample", []() -> int { throw 3; }), ExitedWithCode(1), "^sample: failed");
  EXPECT_EXIT(run_program("sample", []() -> int { throw Interrupted(SIGINT); }), ExitedWithCode(130),
              "^sample: interrupted by SIGINT\n$");
  EXPECT_EXIT(run_program("sample", []() -> int { throw Interrupted(SIGTERM); }), ExitedWithCode(143),
              "^sample: interrupted by SIGTERM\n$");
}

TEST(RunProgramDeathTest, MessagesAreOneLineWithoutControlCharacters) {
  EXPECT_EXIT(run_program("run", []() -> int { throw InputError("a\nb\x1b[2J\x7f.ckpt: missing"); }), ExitedWithCode(1),
              "^run: a\\\\nb\\\\x1b\\[2J\\\\x7f.ckpt: missing\n$");
}

TEST(RunProgramDeathTest, OutputThatCannotBeWrittenIsAFailure) {
  const auto print_to_full_disk = [] {
    run_program("run", [] {
      if (!std::freopen("/dev/full", "w", stdout)) return 3;
      std::puts("test_loss 0.684364");
      return 0;
    });
  };
  EXPECT_EXIT(print_to_full_disk(), ExitedWithCode(1), "^run: cannot write the output: No space left on device\n$");
  const auto print_to_nowhere = [] {
    ::close(STDOUT_FILENO);
    run_program("run", [] { return std::puts("test_loss 0.684364"), 0; });
  };
  EXPECT_EXIT(print_to_nowhere(), ExitedWithCode(1), "^run: cannot write the output: Bad file descriptor\n$");
}

TEST(RunProgramDeathTest, ClosedStandardFilesAreNotReused) {
  const auto open_with_all_closed = [] {
    for (const int descriptor : {0, 1, 2}) ::close(descriptor);
    run_program("run", [] { return ::open("/dev/null", O_RDONLY) > 2 ? 7 : 8; });
  };
  EXPECT_EXIT(open_with_all_closed(), ExitedWithCode(7), "");
}

TEST(SignalsDeathTest, UnderTorchrunASecondChangesNothing) {
  const auto twice = [] {
    ::setenv("TORCHELASTIC_RUN_ID", "1", 1);
    run_program("run", [] {
      ::raise(SIGTERM);
      ::raise(SIGTERM);
      throw_if_stopped();
      return 0;
    });
  };
  EXPECT_EXIT(twice(), ExitedWithCode(143), "interrupted");
}

TEST(SignalsDeathTest, EachIsNamedAndMayBeIgnored) {
  for (const auto& [number, name] : kStopSignals) {
    const auto caught = [number = number] {
      run_program("run", [&] { return ::raise(number), throw_if_stopped(), 0; });
    };
    EXPECT_EXIT(caught(), ExitedWithCode(128 + number), std::string("^run: interrupted by ") + name + "\n$");
    const auto ignored = [number = number] {
      ::signal(number, SIG_IGN);
      run_program("run", [&] { return ::raise(number), throw_if_stopped(), 0; });
    };
    EXPECT_EXIT(ignored(), ExitedWithCode(0), "^$");
  }
  EXPECT_EQ(name_of_signal(0), "signal 0");
}

// A closed terminal sends SIGHUP through the kernel and the shell, a limit on CPU time SIGXCPU every second.
TEST(SignalsDeathTest, WhatIsRepeatedByItselfDoesNotEndTheSaving) {
  for (const int number : {SIGHUP, SIGXCPU}) {
    const auto again = [number] {
      run_program("run", [&] { return ::raise(number), ::raise(number), throw_if_stopped(), 0; });
    };
    EXPECT_EXIT(again(), ExitedWithCode(128 + number), "interrupted by");
  }
  const auto usr1 = [] {
    run_program("run", [] { return ::raise(SIGUSR1), ::raise(SIGUSR1), throw_if_stopped(), 0; });
  };
  EXPECT_EXIT(usr1(), ExitedWithCode(128 + SIGUSR1), "^$");
}

// Output whose reader has gone is an error like any other; a log whose reader has gone is none.
TEST(RunProgramDeathTest, AReaderThatGoesAwayEndsNoProgram) {
  const auto write_to_nobody = [](int descriptor) {
    int ends[2];
    if (::pipe(ends) != 0) ::_exit(9);
    ::dup2(ends[1], descriptor);
    ::close(ends[0]);
    ::close(ends[1]);
    run_program("run", [] {
      CommonOptions common;
      for (int i = 0; i < 3; ++i) note(common, "step 5: val_loss 0.7");
      std::puts("test_loss 0.684364");
      return 0;
    });
  };
  EXPECT_EXIT(write_to_nobody(STDERR_FILENO), ExitedWithCode(0), "^$");
  EXPECT_EXIT(write_to_nobody(STDOUT_FILENO), ExitedWithCode(1), "run: cannot write the output: Broken pipe\n$");
}

TEST(RunProgramDeathTest, LimitsAreNamedWithWhatHelps) {
  if (igpt::sanitized) GTEST_SKIP() << "a sanitizer takes terabytes of address space";
  const auto limited = [](int resource, rlim_t value, const auto& error) {
    rlimit limit{};
    ::getrlimit(resource, &limit);
    limit.rlim_cur = value;
    ::setrlimit(resource, &limit);
    run_program(
        "gif", [&]() -> int { throw error; }, "lower --rows");
  };
  EXPECT_EXIT(limited(RLIMIT_AS, 64 << 20, std::bad_alloc()), ExitedWithCode(1),
              "^gif: out of memory \\(ulimit -v allows 64 MiB\\); allow more, or lower --rows\n$");
  EXPECT_EXIT(run_program("gif",
                          []() -> int {
                            throw std::runtime_error(
                                "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate");
                          }),
              ExitedWithCode(1), "^gif: out of memory; use a machine with more, or close other programs\n$");
  const auto in_a_thread = [] {  // where nobody catches it
    run_program("gif", [] { return std::thread([] { throw std::bad_alloc(); }).join(), 0; });
  };
  EXPECT_EXIT(in_a_thread(), ExitedWithCode(1), "^gif: out of memory; [^\n]*\n$");
  const std::system_error no_thread(EAGAIN, std::generic_category());
  EXPECT_EXIT(limited(RLIMIT_NPROC, 7, no_thread), ExitedWithCode(1),
              "^gif: cannot start a thread: the limit on processes \\(ulimit -u allows 7 of this user\\)");
}

TEST(RunProgramDeathTest, ADeletedCurrentFolderIsTheCause) {
  const auto in_deleted_folder = [](const std::function<int()>& body) {
    const igpt::testing::TemporaryFolder folder;
    if (::chdir(folder.path().c_str()) != 0 || ::rmdir(folder.path().c_str()) != 0) ::_exit(9);
    run_program("run", body);
  };
  EXPECT_EXIT(in_deleted_folder([]() -> int { throw InputError("data/train_x.npy: no such file"); }), ExitedWithCode(1),
              "^run: the current folder has been deleted; change to one that exists \\(cd\\) and start again "
              "\\(data/train_x.npy: no such file\\)\n$");
  EXPECT_EXIT(in_deleted_folder([]() -> int { return std::filesystem::current_path().empty(); }), ExitedWithCode(1),
              "^run: the current folder has been deleted");
  EXPECT_EXIT(in_deleted_folder([] { return 0; }), ExitedWithCode(0), "^$");
}

TEST(SignalsDeathTest, TheFirstIsRememberedTheSecondEnds) {
  const auto first = [] {
    catch_stop_signals("run");
    throw_if_stopped();
    ::raise(SIGTERM);
    if (stop_signal() != SIGTERM) ::_exit(9);
    run_program("run", [] { return throw_if_stopped(), 0; });
  };
  EXPECT_EXIT(first(), ExitedWithCode(143), "interrupted");
  const auto second = [] {
    catch_stop_signals("run");
    ::raise(SIGTERM);
    ::raise(SIGINT);
    ::_exit(9);
  };
  EXPECT_EXIT(second(), ExitedWithCode(130), "");
  const auto slow = [] {
    catch_stop_signals("run");
    ::raise(SIGINT);
    ::pause();  // until the alarm
    ::_exit(stop_signal() == SIGINT ? 0 : 9);
  };
  EXPECT_EXIT(slow(), ExitedWithCode(0),
              "^run: stopping after the current step; the same signal again .* ends at once");
  const auto ignored = [] {
    ::signal(SIGINT, SIG_IGN);
    catch_stop_signals("run");
    ::raise(SIGINT);
    ::_exit(stop_signal() == 0 ? 0 : 9);
  };
  EXPECT_EXIT(ignored(), ExitedWithCode(0), "");
}

TEST(CommonOptions, DeviceThreadsAndSeedAreChecked) {
  CommonOptions common;
  Options options("sample", "", "");
  add_device_options(options, common);
  add_seed_option(options, common);
  for (const char* device : {"auto", "cpu", "cuda", "cuda:0", "cuda:12"}) {
    options.parse({"--device", device});
    EXPECT_EQ(common.device, device);
  }
  for (const char* device : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:99999999999", "CPU"})
    EXPECT_THAT(what([&] {
                  options.parse({"--device", device});
                }),
                HasSubstr("must be auto, cpu, cuda or cuda:N"))
        << device;
  options.parse({"--gpus", "0"});
  EXPECT_EQ(common.device, "cuda:0");
  EXPECT_THAT(what([&] { options.parse({"--gpus", "0,1"}); }), HasSubstr("--gpus 0,1: must be the number of one GPU"));
  const TemporaryFolder folder;
  const auto in_file = [&](const std::string& gpus) {
    igpt::testing::write_bytes(folder / "config.yml", "gpus: " + gpus + "\n");
    common.device = "auto";
    Options fresh("run train", "", "");
    add_device_options(fresh, common);
    return what([&] { fresh.load_yaml(folder / "config.yml"); });
  };
  // Lightning takes an integer for how many, a text or a list for which.
  const std::pair<const char*, const char*> devices[] = {{"1", "cuda"}, {"0", "cpu"},      {"null", "auto"},
                                                         {"", "auto"},  {"'0'", "cuda:0"}, {"[2]", "cuda:2"}};
  for (const auto& [gpus, device] : devices) {
    EXPECT_EQ(in_file(gpus), "") << gpus;
    EXPECT_EQ(common.device, device) << gpus;
  }
  for (const char* gpus : {"2", "-1", "True", "all"})
    EXPECT_THAT(in_file(gpus), HasSubstr(std::string("gpus ") + gpus + ": must be 0 or 1")) << gpus;
  EXPECT_THAT(in_file("2"), HasSubstr("torchrun"));
  EXPECT_THAT(in_file("[0, 1]"), HasSubstr("gpus 0,1: must be the number of one GPU"));
  EXPECT_THAT(what([&] { options.parse({"--threads", "-1"}); }), HasSubstr("--threads -1: must be 0 to 4096"));
  EXPECT_THAT(what([&] { options.parse({"--seed", "-1"}); }), HasSubstr("--seed -1: must be 0 to 9223372036854775807"));
  EXPECT_GE(draw_seed(), 0);
}

TEST(Printable, KeepsTextAndEscapesControlCharacters) {
  EXPECT_EQ(single_line("Größe 5\t\n\x01"), "Größe 5\\t\\n\\x01");
  EXPECT_EQ(single_line("a\xC2\x9B!"), "a\\xc2\x9B!");
  EXPECT_EQ(single_line(std::string_view("\0", 1)), "\\x00");
}

}  // namespace
}  // namespace igpt::cli
