#include "src/backend/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "igpt/error.h"
#include "temporary_folder.h"

namespace igpt::backend {
namespace {

using ::testing::HasSubstr;

class Verdict : public ::testing::Test {
 protected:
  // The verdict that a shell command in place of `run check` leads to.
  std::string of(const std::string& command, const std::string& identity = "gpu", const Hooks& hooks = {},
                 std::chrono::seconds patience = std::chrono::seconds(60)) {
    return verdict(identity, folder_ / "cache", {"/bin/sh", "-c", "echo x >> " + checks_ + "; " + command}, hooks,
                   patience);
  }

  // A shell command that keeps a verdict, as `run check` does.
  std::string keeping(const std::string& fault, const std::string& identity = "gpu") {
    const auto kept = folder_ / ("kept-" + std::to_string(++kept_));
    remember_verdict(identity, kept, fault);
    return "mkdir -p '" + (folder_ / "cache").string() + "' && cp '" + kept.string() + "'/* '" +
           (folder_ / "cache").string() + "'";
  }

  int64_t checks() const {
    std::ifstream file(checks_);
    return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
  }

  testing::TemporaryFolder folder_;
  const std::string checks_ = (folder_ / "checks").string();
  int kept_ = 0;
};

TEST_F(Verdict, IsRememberedForTheSameDeviceDriverAndBuild) {
  EXPECT_EQ(of(keeping("")), "");
  EXPECT_EQ(of("exit 1"), "");
  EXPECT_EQ(checks(), 1);
  EXPECT_EQ(of(keeping("gradients differ", "another gpu") + "; exit 1", "another gpu"), "gradients differ");
  EXPECT_EQ(of("exit 0", "another gpu"), "gradients differ");
  EXPECT_EQ(checks(), 2);
}

TEST_F(Verdict, IsRenewedByALaterCheck) {
  EXPECT_EQ(of(keeping("gradients differ") + "; exit 1"), "gradients differ");
  remember_verdict("gpu", folder_ / "cache", "");
  EXPECT_EQ(of("exit 1"), "");
  EXPECT_EQ(checks(), 1);
}

TEST_F(Verdict, IsForgottenWhenALaterCheckCannotBeCompleted) {
  remember_verdict("gpu", folder_ / "cache", "");
  remember_verdict("gpu", folder_ / "cache", std::nullopt);
  EXPECT_EQ(of(keeping("gradients differ") + "; exit 1"), "gradients differ");
}

TEST_F(Verdict, OfAFileThatIsDamagedIsFoundAgain) {
  EXPECT_EQ(of(keeping("")), "");
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "cache"))
    std::ofstream(entry.path()) << "gpu\n";
  EXPECT_EQ(of("exit 0"), "");
  EXPECT_EQ(checks(), 2);
}

TEST_F(Verdict, OfACheckThatCouldNotBeMadeIsNotRemembered) {
  EXPECT_THAT(of("kill -SEGV $$"), HasSubstr("their check ended with: Segmentation fault"));
  EXPECT_THAT(of("exit 3"), HasSubstr("their check could not be made"));
  EXPECT_THAT(of("exit 1"), HasSubstr("their check could not be made"));
  EXPECT_THAT(of("echo no such device >&2; exit 1"), HasSubstr("their check failed: no such device"));
  EXPECT_THAT(of("echo gradients: CUDA out of memory; exit 1"), HasSubstr("check failed: gradients: CUDA out of"));
  EXPECT_THAT(verdict("gpu", folder_ / "cache", {"/no/such/program"}, {}), HasSubstr("could not be made: /no/such"));
  EXPECT_EQ(of("exit 0"), "");
  EXPECT_EQ(checks(), 6);
}

TEST_F(Verdict, OfACheckThatHangsIsThatItTookTooLong) {
  EXPECT_THAT(of("exec sleep 600", "gpu", {}, std::chrono::seconds(0)), HasSubstr("took longer than 0 s"));
}

TEST_F(Verdict, IsNotWaitedForAfterAStopSignal) {
  Hooks hooks;
  hooks.stop_signal = [] { return SIGINT; };
  EXPECT_THROW(of("exec sleep 600", "gpu", hooks), Interrupted);
}

TEST_F(Verdict, IsFoundWithoutAFolderToo) {
  std::string notes;
  Hooks hooks;
  hooks.note = [&](const std::string& note) { notes += note; };
  EXPECT_EQ(verdict("gpu", {}, {"/bin/sh", "-c", "exit 0"}, hooks), "");
  EXPECT_THAT(notes, HasSubstr("the verdict cannot be kept, so that every start checks again"));
}

}  // namespace
}  // namespace igpt::backend
