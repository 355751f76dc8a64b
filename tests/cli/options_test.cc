#include "igpt/cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "igpt/error.h"

namespace igpt::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

struct Fields {
  bool classify = false, quiet = false;
  int64_t steps = 25000;
  double learning_rate = 0.01;
  std::string name, schedule = "cosine", device = "auto", checkpoint;
  std::optional<int64_t> seed;
  std::optional<double> grad_clip;
  std::vector<int64_t> indices;
};

Options declare(Fields& fields, bool with_checkpoint = false) {
  Options options("run train", "Trains an Image GPT.", "run train --name fmnist_gen");
  options.group("Run");
  options.add("n,name", fields.name, "the run's name");
  options.add("seed", fields.seed, "seed of all random numbers", at_least(0));
  options.add("q,quiet", fields.quiet, "no progress");
  options.add("classify", fields.classify, "train the classifier");
  options.group("Training");
  options.add("steps", fields.steps, "optimizer steps", at_least(1));
  options.add("learning_rate", fields.learning_rate, "of Adam", greater_than(0));
  options.add("grad_clip", fields.grad_clip, "largest norm of the gradient", greater_than(0));
  options.add("schedule", fields.schedule, "of the learning rate", one_of({"cosine", "linear", "constant"}));
  options.add("indices", fields.indices, "test images", at_least(0));
  options.add("device", fields.device, "where to compute");
  options.alias(
      "gpus", "device", [](const std::string& n) { return "cuda:" + n; },
      [](const std::string& n) { return n + " of cuda"; });
  options.alias("max_steps", "steps", [](const std::string& n) { return n; });
  if (with_checkpoint) options.positional("CKPT", fields.checkpoint, "the checkpoint");
  return options;
}

Fields parsed(const std::vector<std::string>& arguments, bool with_checkpoint = false) {
  Fields fields;
  Options options = declare(fields, with_checkpoint);
  EXPECT_TRUE(options.parse(arguments));
  return fields;
}

std::string complaint(const std::vector<std::string>& arguments, bool with_checkpoint = false) {
  Fields fields;
  Options options = declare(fields, with_checkpoint);
  try {
    options.parse(arguments);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Options, EverySpellingOfAValueIsRead) {
  EXPECT_EQ(parsed({"--steps", "7"}).steps, 7);
  EXPECT_EQ(parsed({"--steps=7"}).steps, 7);
  EXPECT_EQ(parsed({"-n", "gen"}).name, "gen");
  EXPECT_EQ(parsed({"-ngen-1.2"}).name, "gen-1.2");
  EXPECT_EQ(parsed({"--name=a=b"}).name, "a=b");
  EXPECT_EQ(parsed({"--name", "-x-"}).name, "-x-");
  EXPECT_EQ(parsed({"--learning_rate", "3e-3"}).learning_rate, 3e-3);
  EXPECT_EQ(parsed({"--seed", "9223372036854775807"}).seed, std::numeric_limits<int64_t>::max());
  EXPECT_EQ(parsed({"--grad_clip", ".5"}).grad_clip, 0.5);
  EXPECT_THAT(parsed({"--indices", "3,17"}).indices, ElementsAre(3, 17));
  const Fields flags = parsed({"--classify", "-q"});
  EXPECT_TRUE(flags.classify && flags.quiet);
  EXPECT_TRUE(parsed({"-qnx"}).quiet);
  EXPECT_EQ(parsed({"-qnx"}).name, "x");
}

TEST(Options, NothingGivenLeavesTheDefaults) {
  const Fields fields = parsed({});
  EXPECT_EQ(fields.steps, 25000);
  EXPECT_EQ(fields.seed, std::nullopt);
  EXPECT_FALSE(fields.classify);
}

TEST(Options, LastOfTwoCounts) {
  EXPECT_EQ(parsed({"--steps", "5", "--steps=9"}).steps, 9);
}

TEST(Options, OfAListAllCount) {
  EXPECT_THAT(parsed({"--indices", "5", "--indices=9,2"}).indices, ElementsAre(5, 9, 2));
}

TEST(Options, AnEmptyTextIsRefused) {
  for (const auto& arguments : {std::vector<std::string>{"--name="}, {"--name", ""}, {"-n", ""}})
    EXPECT_EQ(complaint(arguments), "--name \"\": is empty; give a value, or leave the option out");
}

TEST(Options, TheEndingOfAFileMustBeThatOfItsFormat) {
  const auto picture = file_ending_in({".png", ".svg"});
  EXPECT_EQ(picture.words, "a name that ends in .png or .svg");
  for (const char* file : {"a.png", "b/A.PNG", "a.b.svg", "/dev/stdout", "a"}) EXPECT_TRUE(picture.test(file)) << file;
  for (const char* file : {"a.jpg", "a.png.zip", "a.pn"}) EXPECT_FALSE(picture.test(file)) << file;
}

TEST(Options, NegativeNumbersAreValuesNotOptions) {
  EXPECT_EQ(complaint({"--steps", "-1"}), "--steps -1: must be at least 1");
  EXPECT_EQ(complaint({"--learning_rate", "-.5"}), "--learning_rate -.5: must be greater than 0");
  EXPECT_EQ(complaint({"--steps=-1"}), "--steps -1: must be at least 1");
}

TEST(Options, NumbersAreReadWhole) {
  for (const char* text : {"", " 5", "5 ", "5x", "0x10", "1e3", "+5", "5.0", "nan", "five"})
    EXPECT_THAT(complaint({"--steps", text}), HasSubstr("must be a whole number")) << text;
  EXPECT_EQ(complaint({"--steps", "9223372036854775808"}), "--steps 9223372036854775808: is out of range");
  for (const char* text : {"nan", "inf", "-inf", "infinity", "", " 1", "1x", "0x1p3", "1,5"})
    EXPECT_THAT(complaint({"--learning_rate", text}), HasSubstr("must be a number")) << text;
  EXPECT_THAT(complaint({"--learning_rate", "1e999"}), HasSubstr("is out of range"));
  EXPECT_EQ(complaint({"--steps", ""}), "--steps \"\": must be a whole number");
}

TEST(Options, ListsNameTheWrongNumber) {
  EXPECT_EQ(complaint({"--indices", "3,-1"}), "--indices 3,-1: each number, separated by commas, must be at least 0");
  for (const char* text : {"3,", ",3", "3,,4", "3;4"})
    EXPECT_THAT(complaint({"--indices", text}), HasSubstr("must be a whole number")) << text;
}

TEST(Options, ChoicesAreListed) {
  EXPECT_EQ(complaint({"--schedule", "cosin"}), "--schedule cosin: must be cosine, linear or constant");
}

TEST(Options, MisspeltOptionsGetTheNearest) {
  EXPECT_EQ(complaint({"--stepz", "5"}), "--stepz: unknown option; did you mean --steps?");
  EXPECT_EQ(complaint({"--learning-rate=1"}), "--learning-rate: unknown option; did you mean --learning_rate?");
  EXPECT_EQ(complaint({"--learn", "1"}), "--learn: unknown option; did you mean --learning_rate?");
  EXPECT_EQ(complaint({"--completely_different"}), "--completely_different: unknown option");
  EXPECT_EQ(complaint({"-z"}), "-z: unknown option");
  EXPECT_THAT(complaint({"---"}), HasSubstr("unknown option"));
  EXPECT_THAT(complaint({"-name", "x"}), Not(HasSubstr("accepted")));
}

TEST(Options, MissingValuesAreNamed) {
  EXPECT_EQ(complaint({"--name"}), "--name: needs a value");
  EXPECT_EQ(complaint({"--name", "--steps", "5"}), "--name: needs a value");
  EXPECT_EQ(complaint({"-n", "-q"}), "-n: needs a value");
  EXPECT_EQ(complaint({"--name", "--"}), "--name: needs a value");
  EXPECT_THAT(complaint({"-qhn"}), HasSubstr("missing an argument"));
}

TEST(Options, FlagsTakeNoOtherValue) {
  EXPECT_FALSE(parsed({"--classify", "--classify=false"}).classify);
  EXPECT_EQ(complaint({"--classify=maybe"}), "--classify maybe: must be true or false");
}

TEST(Options, ArgumentsWithoutNames) {
  EXPECT_EQ(parsed({"a.ckpt", "--steps", "5"}, true).checkpoint, "a.ckpt");
  EXPECT_EQ(parsed({"--", "-odd.ckpt"}, true).checkpoint, "-odd.ckpt");
  EXPECT_EQ(complaint({"surplus"}), "surplus: unexpected argument; usage: run train [options]");
  EXPECT_EQ(complaint({"a", "b"}, true), "b: unexpected argument; usage: run train CKPT [options]");
  EXPECT_EQ(complaint({"--steps", "5"}, true), "CKPT is required (the checkpoint); usage: run train CKPT [options]");
  EXPECT_EQ(complaint({""}, true), "CKPT is empty; give the checkpoint");
}

TEST(Options, RequiredOptionsSayWhy) {
  Fields fields;
  Options options = declare(fields);
  options.parse({});
  try {
    options.require("name", "it names the folder in logs/");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "--name is required; it names the folder in logs/");
  }
  options.parse({"--name", "x"});
  EXPECT_NO_THROW(options.require("name", ""));
}

TEST(Options, GivenTellsDefaultsFromTheSameValueTyped) {
  Fields fields;
  Options options = declare(fields);
  options.parse({"--steps", "25000"});
  EXPECT_TRUE(options.given("steps"));
  EXPECT_FALSE(options.given("learning_rate"));
}

TEST(Options, LongArgumentsAreShortInMessages) {
  const std::string longest(1 << 20, 'x');
  EXPECT_LT(complaint({"--steps", longest}).size(), 200u);
  EXPECT_LT(complaint({"--" + longest}).size(), 200u);
  EXPECT_LT(complaint({longest}).size(), 200u);
}

TEST(Options, AliasesSetTheirTarget) {
  std::string device = "auto";
  Options options("sample", "", "");
  options.add("device", device, "where", {});
  options.alias("gpus", "device", [](const std::string& n) { return "cuda:" + n; });
  options.parse({"--gpus", "0"});
  EXPECT_EQ(device, "cuda:0");
  EXPECT_TRUE(options.given("device"));
  EXPECT_THAT(options.help(), Not(HasSubstr("gpus")));
  EXPECT_THAT(options.values(), ElementsAre(Pair("device", "cuda:0")));
}

TEST(Options, ValuesReadBackAreTheSame) {
  Fields fields;
  Options options = declare(fields);
  options.parse({"--learning_rate", "0.1", "--seed", "42", "--indices", "1,2", "--classify", "-n", "x y"});
  Fields again;
  Options other = declare(again);
  for (const auto& [name, text] : options.values()) other.set(name, text, "hparams.yaml");
  EXPECT_EQ(other.values(), options.values());
  EXPECT_EQ(again.learning_rate, 0.1);
  EXPECT_THAT(options.values(), ::testing::Contains(Pair("learning_rate", "0.1")));
  EXPECT_THAT(options.values(), Not(::testing::Contains(Pair("grad_clip", ::testing::_))));
}

TEST(Options, HelpIsGroupedWithDefaultsAndEndsWithTheExample) {
  Fields fields;
  const std::string help = declare(fields, true).help();
  EXPECT_THAT(help, HasSubstr("usage: run train CKPT [options]\n"));
  EXPECT_THAT(help, HasSubstr("\nTraining:\n      --steps N"));
  EXPECT_THAT(help, HasSubstr("optimizer steps; at least 1 (25000)\n"));
  EXPECT_THAT(help, HasSubstr("--schedule cosine|linear|constant"));
  EXPECT_THAT(help, HasSubstr("  -n, --name TEXT"));
  EXPECT_TRUE(help.ends_with("\nExample:\n  run train --name fmnist_gen\n"));
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
}

TEST(Options, HelpAndVersionEndTheParsing) {
  Fields fields;
  Options options = declare(fields, true);
  ::testing::internal::CaptureStdout();
  EXPECT_FALSE(options.parse({"--help"}));
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), options.help());
  ::testing::internal::CaptureStdout();
  EXPECT_FALSE(options.parse({"--version"}));
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), HasSubstr("LibTorch"));
}

class Commands : public ::testing::Test {
 protected:
  Options* choose(std::vector<std::string> arguments) {
    rest_ = std::move(arguments);
    return choose_command("run", rest_, {{"train", &train_}, {"test", &test_}});
  }
  Fields fields_;
  Options train_ = declare(fields_), test_{"run test", "Tests.", "run test x.ckpt"};
  std::vector<std::string> rest_;
};

TEST_F(Commands, OptionsMayStandBeforeTheCommand) {
  EXPECT_EQ(choose({"--steps", "5", "train", "--name", "x"}), &train_);
  EXPECT_THAT(rest_, ElementsAre("--steps", "5", "--name", "x"));
  EXPECT_EQ(choose({"-q", "test", "x.ckpt"}), &test_);
  EXPECT_THAT(rest_, ElementsAre("-q", "x.ckpt"));
  EXPECT_EQ(choose({"--name", "test", "train"}), &train_);
  EXPECT_THAT(rest_, ElementsAre("--name", "test"));
}

TEST_F(Commands, MissingAndUnknownOnesAreErrors) {
  EXPECT_THROW(choose({}), UsageError);
  EXPECT_THROW(choose({"--steps", "5"}), UsageError);
  EXPECT_THROW(choose({"trian"}), UsageError);
}

TEST_F(Commands, HelpOfTheProgramListsThem) {
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(choose({"--help"}), nullptr);
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), HasSubstr("  train                     Trains an Image GPT."));
  EXPECT_EQ(choose({"train", "--help"}), &train_);
  EXPECT_THAT(rest_, ElementsAre("--help"));
}

class Configuration : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("igpt_config_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file(const std::string& content) {
    const std::string path = folder_ / "config.yaml";
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  // The message without the folder, "" when the file was taken.
  std::string refusal(const std::string& content, const std::vector<std::string>& arguments = {}) {
    fields_ = {};
    Options options = declare(fields_);
    options.parse(arguments);
    const std::string path = file(content);
    try {
      options.load_yaml(path);
    } catch (const Error& error) {
      const std::string message = error.what();
      EXPECT_TRUE(message.starts_with(path + ": ")) << message;
      EXPECT_THAT(message, Not(HasSubstr("\n")));
      EXPECT_LT(message.size(), 400u);
      return message.substr(path.size() + 2);
    }
    return "";
  }

  std::filesystem::path folder_;
  Fields fields_;
};

TEST_F(Configuration, SetsEveryKind) {
  EXPECT_EQ(refusal("name: gen 2\nsteps: 300\nlearning_rate: 3e-3\nclassify: true\nseed: 1 # why\nindices: [3, 17]\n"),
            "");
  EXPECT_EQ(fields_.name, "gen 2");
  EXPECT_EQ(fields_.steps, 300);
  EXPECT_EQ(fields_.learning_rate, 3e-3);
  EXPECT_TRUE(fields_.classify);
  EXPECT_EQ(fields_.seed, 1);
  EXPECT_THAT(fields_.indices, ElementsAre(3, 17));
  EXPECT_EQ(refusal(""), "");
  EXPECT_EQ(refusal("# nothing\n"), "");
}

TEST_F(Configuration, TheCommandLineWins) {
  EXPECT_EQ(refusal("steps: 300\nseed: 4\n", {"--steps", "5"}), "");
  EXPECT_EQ(fields_.steps, 5);
  EXPECT_EQ(fields_.seed, 4);
}

TEST_F(Configuration, FlagsAreTheBooleansOfYaml) {
  for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "'True'", "\"yes\""}) {
    EXPECT_EQ(refusal(std::string("classify: ") + word + "\n"), "");
    EXPECT_TRUE(fields_.classify) << word;
  }
  for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "'False'"}) {
    EXPECT_EQ(refusal(std::string("quiet: true\nclassify: ") + word + "\n"), "");
    EXPECT_TRUE(fields_.quiet && !fields_.classify) << word;
  }
  for (const std::string word : {"y", "n", "1", "0", "tRUE", "[true]x"})
    EXPECT_EQ(refusal("classify: '" + word + "'\n"), "classify " + word + ": must be true or false");
  EXPECT_EQ(refusal("name: on\nschedule: 'cosine'\n"), "");
  EXPECT_EQ(fields_.name, "on");
  EXPECT_EQ(refusal("steps: True\n"), "steps True: must be a whole number");
}

TEST_F(Configuration, NullIsNotGiven) {
  for (const std::string nothing : {"null", "Null", "NULL", "~", "", "# nothing"}) {
    EXPECT_EQ(refusal("steps: " + nothing + "\nclassify: " + nothing + "\nname: " + nothing +
                      "\ngrad_clip: " + nothing + "\nindices: " + nothing + "\nmax_steps: " + nothing),
              "max_steps is the same as steps; keep one");
    EXPECT_EQ(refusal("classify: " + nothing + "\nname: " + nothing + "\ngrad_clip: " + nothing +
                      "\nindices: " + nothing + "\nmax_steps: " + nothing + "\nseed: 7\n"),
              "");
    EXPECT_EQ(fields_.steps, 25000);
    EXPECT_EQ(fields_.name, "");
    EXPECT_EQ(fields_.seed, 7);
  }
  EXPECT_EQ(refusal("name: \"null\"\n"), "");
  EXPECT_EQ(fields_.name, "null");
  EXPECT_EQ(refusal("stepz: null\n"), "stepz: unknown option; did you mean steps?");
  EXPECT_EQ(refusal("indices: [3, ~]\n"), "line 1: a value must be a single one or a list of whole numbers");
  EXPECT_EQ(refusal("~: 5\n"), "line 1: an option's name is missing");
}

TEST_F(Configuration, NumbersAreThoseOfYaml) {
  const std::pair<const char*, int64_t> whole[] = {{"10_000", 10000}, {"1_0_0", 100}, {"+5", 5},      {"1e4", 10000},
                                                   {"2.5E+3", 2500},  {"64.0", 64},   {"'300'", 300}, {"7 # days", 7},
                                                   {"3_", 3},         {"\"20\"", 20}};
  for (const auto& [text, value] : whole) {
    EXPECT_EQ(refusal(std::string("steps: ") + text + "\n"), "");
    EXPECT_EQ(fields_.steps, value) << text;
  }
  const std::pair<const char*, double> real[] = {
      {"1e-3", 1e-3},  {"1.0e-3", 1e-3},    {"3E-3", 3e-3},     {".5", 0.5}, {"5.", 5},
      {"+0.01", 0.01}, {"1_000.5", 1000.5}, {"'0.003'", 0.003}, {"2", 2},    {"1e3", 1000}};
  for (const auto& [text, value] : real) {
    EXPECT_EQ(refusal(std::string("learning_rate: ") + text + "\n"), "");
    EXPECT_EQ(fields_.learning_rate, value) << text;
  }
  EXPECT_EQ(refusal("indices: [1_0, +7, 1e1]\n"), "");
  EXPECT_THAT(fields_.indices, ElementsAre(10, 7, 10));
  for (const std::string text : {"_10", "1e-3", "1.5", "0b1", "1:30", "e5", "-", "+", "1e400", "--1", "ten"})
    EXPECT_THAT(refusal("steps: '" + text + "'\n"), HasSubstr("steps " + text + ": must be")) << text;
  for (const std::string text : {".inf", "-.inf", ".nan", "1e", "1__e"})
    EXPECT_THAT(refusal("learning_rate: " + text + "\n"), HasSubstr("learning_rate " + text + ": must be a number"));
  EXPECT_THAT(refusal("steps: 010\n"), HasSubstr("steps 010: must be written without a zero in front"));
  EXPECT_THAT(refusal("indices: [1,,2]\n"), HasSubstr("a list of whole numbers"));
  EXPECT_THAT(refusal("indices: ',3'\n"), HasSubstr("must be a whole number"));
  EXPECT_EQ(refusal("name: 10_000\n"), "");
  EXPECT_EQ(fields_.name, "10_000");
}

TEST_F(Configuration, AliasesAreTheOptionsThatTheySet) {
  EXPECT_EQ(refusal("max_steps: 1_000\ngpus: 1\n"), "");
  EXPECT_EQ(fields_.steps, 1000);
  EXPECT_EQ(fields_.device, "1 of cuda");
  for (const char* index : {"'1'", "[1]"}) {
    EXPECT_EQ(refusal(std::string("gpus: ") + index + "\n"), "");
    EXPECT_EQ(fields_.device, "cuda:1");
  }
  EXPECT_EQ(refusal("max_steps: 1\ngpus: 1\n", {"--steps", "5", "--device", "cpu"}), "");
  EXPECT_EQ(fields_.steps, 5);
  EXPECT_EQ(fields_.device, "cpu");
  EXPECT_EQ(refusal("gpus: 1\n", {"--gpus", "3"}), "");
  EXPECT_EQ(fields_.device, "cuda:3");
  EXPECT_EQ(refusal("steps: 1\nmax_steps: 1\n"), "max_steps is the same as steps; keep one");
}

TEST_F(Configuration, ErrorsNameTheKeyAndTheCause) {
  EXPECT_EQ(refusal("stepz: 5\n"), "stepz: unknown option; did you mean steps?");
  EXPECT_EQ(refusal("steps: -1\n"), "steps -1: must be at least 1");
  EXPECT_EQ(refusal("steps: 0x10\n"), "steps 0x10: must be a whole number");
  EXPECT_EQ(refusal("steps: \"1\\n2\"\n"), "steps 1\\n2: must be a whole number");
  EXPECT_EQ(refusal("name: \"\\\x1b\""), "line 1: is not YAML: unknown escape character: \\x1b");
  EXPECT_EQ(refusal("steps: 1\nsteps: 2\n"), "steps is given twice");
  EXPECT_EQ(refusal("- steps\n"), "line 1: must be lines such as `steps: 1000`");
  EXPECT_EQ(refusal("steps\n"), "line 1: must be lines such as `steps: 1000`");
  EXPECT_EQ(refusal("steps: {a: 1}\n"), "line 1: a value must be a single one or a list of whole numbers");
  EXPECT_EQ(refusal("indices: [[1]]\n"), "line 1: a value must be a single one or a list of whole numbers");
  EXPECT_EQ(refusal("name: &a x\nschedule: *a\n"), "line 1: an anchor is not supported here");
  EXPECT_THAT(refusal("name: x\n  steps: 1\n"), HasSubstr("line 2: is not YAML"));
}

TEST_F(Configuration, MissingFilesAndFoldersAreErrors) {
  Options options = declare(fields_);
  EXPECT_THROW(options.load_yaml(folder_ / "none.yaml"), InputError);
  EXPECT_THROW(options.load_yaml(folder_), InputError);
  EXPECT_THROW(options.load_yaml(""), InputError);
  const std::string pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(options.load_yaml(pipe), InputError);
}

TEST_F(Configuration, HostileYamlEndsSoon) {
  const auto repeated = [](std::string_view text) {
    std::string content;
    while (content.size() + text.size() < (64 << 10)) content += text;
    return content;
  };
  std::vector<std::string> contents;
  for (const char* text :
       {"[",    "{",    "- ",   "? ",  "? - ", "!",   "!<",   "&a ",          "*a ",   "%",     "\"",
        "'",    "\t",   "\r",   "#\n", ": ",   "a: ", "a:\n", "a: b\n",       "---\n", "...\n", "|\n",
        ">\n ", "[[],", "{a: ", ",",   "@",    "\n",  "\\",   "a: &a [*a]\n", "x",     "x x\n"})
    contents.push_back(repeated(text));
  contents.push_back("\"" + repeated("\\x41") + "\": 1");
  contents.push_back("indices: [" + repeated("1,") + "x]");
  contents.push_back(std::string(32 << 10, '\0'));
  contents.push_back("a: " + std::string("\xff\xfe\xfd"));
  contents.push_back("\xff\xfe");
  contents.push_back(std::string((64 << 10) + 1, ' '));
  for (const std::string& content : contents) {
    const auto start = std::chrono::steady_clock::now();
    refusal(content);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    EXPECT_LT(took.count(), 2) << content.substr(0, 16);
  }
  EXPECT_THAT(refusal(std::string((64 << 10) + 1, ' ')), HasSubstr("longer than 64 KB"));
}

TEST(Options, FurtherArgumentsAllGoIntoTheLast) {
  std::string first;
  std::vector<std::string> rest, texts;
  Options options("run plot", "Draws.", "run plot a");
  options.positional("FIRST", first, "the first");
  options.positionals("RUN", rest, "a run");
  options.add("image", texts, "pictures", {}, {.placeholder = "FILE"});
  ASSERT_TRUE(options.parse({"--image", "x,y", "a", "b", "--image=z", "c"}));
  EXPECT_EQ(first, "a");
  EXPECT_THAT(rest, ElementsAre("b", "c"));
  EXPECT_THAT(texts, ElementsAre("x,y", "z"));
  EXPECT_THAT(options.help(), HasSubstr("usage: run plot FIRST RUN [RUN ...] [options]"));
  EXPECT_THAT(options.help(), HasSubstr("--image FILE"));
  Options fresh("run plot", "Draws.", "run plot a");
  fresh.positional("FIRST", first, "the first");
  fresh.positionals("RUN", rest, "a run");
  EXPECT_THROW(fresh.parse({"a"}), UsageError);
  EXPECT_THROW(fresh.parse({"a", ""}), UsageError);
}

}  // namespace
}  // namespace igpt::cli
