#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/trained_model.h"
#include "process.h"
#include "sanitized.h"
#include "temporary_folder.h"

namespace igpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// What the dynamic linker opens for a command line, from its own log.
std::string opened_by(std::vector<std::string> arguments) {
  arguments[0] = testing::program(arguments[0]);
  return testing::run(arguments, {{"LD_DEBUG", "files"}}).err;
}

TEST(Start, HelpVersionAndUsageErrorsLoadNeitherLibTorchNorLibcurl) {
  for (const std::string name : {"run", "sample", "gif", "prepare_data"})
    for (const std::string option : {"--help", "--version", "--no_such_option"}) {
      const auto opened = opened_by({name, option});
      EXPECT_THAT(opened, HasSubstr("libstdc++"));
      EXPECT_THAT(opened, AllOf(Not(HasSubstr("libtorch")), Not(HasSubstr("libcurl")))) << name << ' ' << option;
    }
  EXPECT_THAT(opened_by({"gif", "no_such_file.ckpt"}), HasSubstr("libtorch"));
}

TEST(Start, InstalledProgramsRunFromAnywhere) {
  const testing::TemporaryFolder folder;
  const auto build = std::filesystem::path(IGPT_PROGRAMS).parent_path();
  const auto installed = testing::run({IGPT_CMAKE, "--install", build, "--prefix", folder / "first"});
  ASSERT_EQ(installed.exit_code, 0) << installed.err;
  std::filesystem::rename(folder / "first", folder / "moved");
  testing::write_random_checkpoint(folder / "model.ckpt");
  const auto gif = testing::run({folder / "moved/bin/gif", "model.ckpt", "-q"}, {}, folder.path());
  EXPECT_EQ(gif.exit_code, 0) << gif.err;

  if (sanitized) GTEST_SKIP() << "LD_LIBRARY_PATH shows them the build's library";
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder / "moved"))
    if (file.path().filename() == "libigpt.so") std::filesystem::remove(file.path());
  const auto missing = testing::run({folder / "moved/bin/gif", "model.ckpt", "-q"}, {}, folder.path());
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.err, HasSubstr("gif: libigpt.so"));
  EXPECT_THAT(missing.err, HasSubstr("install again"));
}

}  // namespace
}  // namespace igpt
