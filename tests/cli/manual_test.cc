#include "igpt/cli/manual.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "igpt/error.h"
#include "process.h"
#include "temporary_folder.h"

namespace igpt::cli {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

// Help that means something to a shell or to roff.
constexpr const char* kHostile = ".TH it's \"$(touch /tmp/pwned)\" `x` [y] {z}: \\fB %s # --";

struct Fields {
  std::string schedule = "cosine", output, folder, start, palette = "grey", first, second;
  int64_t steps = 1;
  bool quiet = false;
};

std::vector<Declaration> declare(bool has_subcommands) {
  Fields fields;
  Options train(has_subcommands ? "draw train" : "draw", "Trains, it's said.", "draw train --steps 5");
  train.add("n,steps", fields.steps, kHostile, at_least(1));
  train.add("schedule", fields.schedule, "of the rate", one_of({"cosine", "linear", "constant"}));
  train.add("o,output", fields.output, "what to write", {}, {.placeholder = "FILE"});
  train.add("log_dir", fields.folder, "where runs are", {}, {.placeholder = "DIR"});
  train.add("resume", fields.start, "run to continue", {}, {.placeholder = "CKPT|DIR|last"});
  train.add("palette", fields.palette, "colours", {}, {.placeholder = "grey|kmeans|FILE"});
  train.add("q,quiet", fields.quiet, "no progress");
  train.alias("max_steps", "steps", [](const std::string& n) { return n; });
  if (!has_subcommands) train.positional("CKPT", fields.first, "the checkpoint");
  if (!has_subcommands) return {train.declaration()};
  Options convert("draw convert", "Converts: a file.", "draw convert a b");
  convert.positional("CKPT", fields.first, "from");
  convert.positional("OUT", fields.second, "to");
  return {train.declaration(), convert.declaration()};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The scripts in a folder with a few files to complete.
class Completion : public ::testing::Test {
 protected:
  Completion() {
    for (const char* kind : {"bash", "zsh", "fish"}) {
      std::ofstream(scripts_ / ("draw." + std::string(kind))) << generated_text(kind, "draw", declare(true));
      std::ofstream(scripts_ / ("single." + std::string(kind))) << generated_text(kind, "draw", declare(false));
    }
    std::filesystem::create_directory(place_ / "runs");
    for (const char* file : {"a.ckpt", "b.txt", "c d.ckpt"}) std::ofstream(place_ / file) << "x";
  }

  // What is offered for the last word.
  std::vector<std::string> bash(const std::string& words, const std::string& script = "draw.bash") {
    const auto ending = testing::run(
        {"/bin/bash", "-c",
         "compopt() { :; }; source \"$0\"; COMP_WORDS=(" + words +
             "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _igpt_draw; [ ${#COMPREPLY[@]} -eq 0 ] || printf '%s\\n' "
             "\"${COMPREPLY[@]}\"",
         scripts_ / script},
        {}, place_.path());
    EXPECT_EQ(ending.err, "") << words;
    return lines_of(ending.out);
  }

  // The same without the descriptions.
  std::vector<std::string> fish(const std::string& line, const std::string& script = "draw.fish") {
    const auto ending = testing::run(
        {"/usr/bin/fish", "--no-config", "-c",
         "source " + std::string(scripts_ / script) + "; complete -C '" + line + "'"},
        {{"HOME", place_.path()}, {"XDG_CONFIG_HOME", scripts_.path()}, {"XDG_DATA_HOME", scripts_.path()}},
        place_.path());
    EXPECT_EQ(ending.err, "") << line;
    auto offered = lines_of(ending.out);
    for (std::string& word : offered) word.resize(std::min(word.size(), word.find('\t')));
    return offered;
  }

  // What a terminal with zsh shows after Tab was pressed, until `expected` is there.
  std::string zsh(const std::string& line, const std::string& expected, const std::string& script = "draw.zsh") {
    const std::string driver = R"(
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "autoload -U compinit; compinit -u -D; source $1; PROMPT='> '; unsetopt auto_menu; print READ'Y'"
zpty -r z out '*READY*'
zpty -w -n z $2$'\t\t'
zpty -r z out "*$3*" && print -r -- $out
zpty -d z)";
    return testing::run({"/usr/bin/zsh", "-f", "-c", driver, "zsh", scripts_ / script, line, expected},
                        {{"TERM", "dumb"}}, place_.path(), std::chrono::seconds(30))
        .out;
  }

  testing::TemporaryFolder scripts_, place_;
};

TEST_F(Completion, OfBashFollowsTheDeclaration) {
  EXPECT_THAT(bash("draw ''"), ElementsAre("train", "convert", "--help", "--version"));
  EXPECT_THAT(bash("draw tr"), ElementsAre("train"));
  EXPECT_THAT(bash("draw train --s"), ElementsAre("--steps", "--schedule"));
  EXPECT_THAT(bash("draw train ''"), AllOf(Contains("--palette"), Contains("--help"), Not(Contains("--max_steps"))));
  EXPECT_THAT(bash("draw train --schedule ''"), ElementsAre("cosine", "linear", "constant"));
  EXPECT_THAT(bash("draw train --schedule co"), ElementsAre("cosine", "constant"));
  EXPECT_THAT(bash("draw train --schedule ="), ElementsAre("cosine", "linear", "constant"));
  EXPECT_THAT(bash("draw train --schedule = l"), ElementsAre("linear"));
  EXPECT_THAT(bash("draw train -n ''"), IsEmpty());
  EXPECT_THAT(bash("draw train --log_dir ''"), ElementsAre("runs"));
  EXPECT_THAT(bash("draw train --resume ''"), UnorderedElementsAre("last", "a.ckpt", "c d.ckpt", "runs"));
  EXPECT_THAT(bash("draw train --palette ''"),
              UnorderedElementsAre("grey", "kmeans", "a.ckpt", "b.txt", "c d.ckpt", "runs"));
  EXPECT_THAT(bash("draw train --output ''"), IsEmpty());  // readline completes it
  EXPECT_THAT(bash("draw convert b"), ElementsAre("b.txt"));
  EXPECT_THAT(bash("'' ''", "single.bash"), UnorderedElementsAre("a.ckpt", "c d.ckpt", "runs"));
  EXPECT_THAT(bash("draw --schedule li", "single.bash"), ElementsAre("linear"));
}

TEST_F(Completion, OfFishFollowsTheDeclaration) {
  if (!std::filesystem::exists("/usr/bin/fish")) GTEST_SKIP() << "no fish";
  EXPECT_THAT(fish("draw tr"), ElementsAre("train"));
  EXPECT_THAT(fish("draw train --s"), UnorderedElementsAre("--steps", "--schedule"));
  EXPECT_THAT(fish("draw train --schedule co"), UnorderedElementsAre("cosine", "constant"));
  EXPECT_THAT(fish("draw train --log_dir "), ElementsAre("runs/"));
  EXPECT_THAT(fish("draw train --resume "), AllOf(Contains("last"), Contains("a.ckpt"), Contains("runs/")));
  EXPECT_THAT(fish("draw train --palette "), AllOf(Contains("kmeans"), Contains("b.txt")));
  EXPECT_THAT(fish("draw train -n "), IsEmpty());
  EXPECT_THAT(fish("draw convert b"), ElementsAre("b.txt"));
  EXPECT_THAT(fish("draw a", "single.fish"), ElementsAre("a.ckpt"));
}

TEST_F(Completion, OfZshFollowsTheDeclaration) {
  if (!std::filesystem::exists("/usr/bin/zsh")) GTEST_SKIP() << "no zsh";
  EXPECT_THAT(zsh("draw train --schedule ", "linear"), AllOf(HasSubstr("cosine"), HasSubstr("linear")));
  EXPECT_THAT(zsh("draw train --log_dir ", "runs"), HasSubstr("runs"));
  EXPECT_THAT(zsh("draw train --resume ", "runs"),
              AllOf(HasSubstr("last"), HasSubstr("a.ckpt"), Not(HasSubstr("b.txt"))));
  EXPECT_THAT(zsh("draw train --palette b", "txt"), HasSubstr("b.txt"));
  EXPECT_THAT(zsh("draw train -", "pwned"), HasSubstr("$(touch /tmp/pwned"));  // as a text
  EXPECT_THAT(zsh("draw c", "ckpt", "single.zsh"), HasSubstr("c\\ d.ckpt"));
}

TEST(Manual, ShowsEveryOptionAndTextAsItIs) {
  const testing::TemporaryFolder folder;
  for (const bool has_subcommands : {false, true}) {
    std::ofstream(folder / "draw.1") << generated_text("man", "draw", declare(has_subcommands));
    if (!std::filesystem::exists("/usr/bin/groff")) GTEST_SKIP() << "no groff";
    const auto page =
        testing::run({"/usr/bin/groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=200n", folder / "draw.1"});
    EXPECT_EQ(page.err, "");
    for (const char* text :
         {"-n, --steps N", "--schedule cosine|linear|constant", "--resume CKPT|DIR|last", "-h, --help",
          "Trains, it's said.", "draw train --steps 5", "EXIT STATUS", "prepare_data(1)", kHostile})
      EXPECT_THAT(page.out, HasSubstr(text));
    EXPECT_THAT(page.out, Not(HasSubstr("max_steps")));
    if (has_subcommands) {
      EXPECT_THAT(page.out, AllOf(HasSubstr("DRAW CONVERT"), HasSubstr("draw convert CKPT OUT [options]")));
    }
  }
}

TEST(Manual, IsPrintedByProgramsWithAndWithoutSubcommands) {
  bool quiet = false;
  Options gif("gif", "Draws.", "gif a.ckpt"), test("run test", "Tests.", "run test a.ckpt");
  gif.add("quiet", quiet, "no progress");
  ::testing::internal::CaptureStdout();
  EXPECT_FALSE(gif.parse({"--generate", "bash"}));
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), HasSubstr("_igpt_gif"));
  ::testing::internal::CaptureStdout();
  std::vector<std::string> arguments{"--generate", "man"};
  EXPECT_EQ(choose_command("run", arguments, {{"test", &test}}), nullptr);
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), HasSubstr(".SH RUN TEST"));
  EXPECT_THROW(gif.parse({"--generate", "tcsh"}), UsageError);
  EXPECT_THROW(gif.parse({"--generate"}), UsageError);
  EXPECT_THROW(test.parse({"--generate", "bash"}), UsageError);
}

}  // namespace
}  // namespace igpt::cli
