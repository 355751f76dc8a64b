#include <cstdio>
#include <string>

#include "igpt/cli/json.h"
#include "igpt/cli/launch.h"
#include "igpt/cli/options.h"
#include "igpt/cli/program.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"
#include "igpt/error.h"

namespace {

using namespace igpt;

struct TrainCommand {
  training::TrainOptions train;
  cli::CommonOptions common;
  std::string config;
  cli::Options options{"run train", "Trains an Image GPT to predict the next pixel, or to classify.",
                       "run train --name fmnist_gen --steps 25000"};

  TrainCommand();
  void complete();
  void take_settings_of_run();
  void translate_precision();
  void note_differences() const;
};

TrainCommand::TrainCommand() {
  constexpr Attributes kOfThisStart{.of_run = false};
  options.add_fields(train);
  options.alias("accumulate_grad_batches", "accumulate", [](const std::string& batches) { return batches; });
  options.group("Run");
  options.add("config", config, "YAML file with options, also one of the original's; the command line takes precedence",
              {}, kOfThisStart);
  options.group("Program");
  cli::add_device_options(options, common);
  cli::add_log_options(options, common);
  cli::add_json_option(options, common);
}

// Completes the options with the configuration file, the run to resume, and a drawn seed.
void TrainCommand::complete() {
  if (!config.empty()) {
    options.load_yaml(config);
    note_differences();
  }
  if (!train.resume.empty()) take_settings_of_run();
  options.require("name", "it is the folder of the run, for example --name fmnist_gen");
  if (!options.given("seed")) train.seed = cli::draw_seed();
  train.device = common.device;
  train.threads = common.threads;
  const int64_t timeout = train.launch.timeout;
  train.launch = cli::read_launch();
  train.launch.timeout = timeout;
  translate_precision();
  for (const auto& [name, text] : options.values())
    if (options.given(name)) train.given.push_back(name);
}

// A resumed run keeps its settings, but for those that may be given anew.
void TrainCommand::take_settings_of_run() {
  for (const auto& [name, text] : options.values())
    if (options.given(name) && options.attributes(name)->of_run && !options.attributes(name)->free_on_resume)
      throw UsageError("--" + name +
                       ": a resumed run keeps its options; leave it out, or start a new run with --pretrained");
  for (const auto& [name, text] : commands().settings_of_run(train.resume)) {
    const Attributes* attributes = options.attributes(name);
    if (attributes && !attributes->of_run)
      throw InputError(train.resume + ": its training state sets " + name + ", which no run stores; do not trust it");
    options.fill(name, text, train.resume);
  }
}

// Says what the original does without being told. Its configuration files are known by its names for some options.
void TrainCommand::note_differences() const {
  if (!options.given("gpus") && !options.given("accumulate_grad_batches")) return;
  std::vector<std::pair<const char*, const char*>> settings{
      {"optimizer", "adam"}, {"schedule", "constant"}, {"grad_clip", "0"}, {"ema", "0"}, {"embedding_std", "1"}};
  settings.emplace_back("warmup_steps", train.classify ? "0" : "500");
  if (train.classify) settings.insert(settings.end(), {{"generative_weight", "1"}, {"patience", "3"}});
  std::string missing;
  for (const auto& [name, value] : settings)
    if (!options.given(name)) missing += (missing.empty() ? "" : ", ") + std::string(name) + ": " + value;
  if (!missing.empty())
    cli::note(common, config + ": what it leaves out follows this project's recipe; the original's is " + missing);
}

// The original's names for a precision become ours, so that a run stores only ours.
void TrainCommand::translate_precision() {
  if (train.precision == "32") train.precision = "fp32";
  if (train.precision != "16") return;
  train.precision = "bf16";
  if (train.launch.rank == 0)
    cli::note(common, "precision 16: taken as --precision bf16, where the original computes in fp16");
}

struct TestCommand {
  training::EvaluateOptions evaluate;
  cli::CommonOptions common;
  bool classify = false;
  cli::Options options{"run test", "Prints the loss of a checkpoint over the test images.",
                       "run test models/fmnist_gen.ckpt"};

  TestCommand() {
    using namespace cli;
    auto& o = options;
    o.positional("CKPT", evaluate.checkpoint, "checkpoint of this project or the original");
    o.group("Test");
    o.add("classify", classify, "test the class logits even if the checkpoint was trained as a generative model");
    o.add("limit", evaluate.limit, "only the first images", at_least(1), {.shown_default = "all"});
    o.add("per_image", evaluate.per_image, "also write the nats of each image, or a classifier's logits, to this .npy");
    o.add("batch_size", evaluate.batch_size, "images in a batch", between(1, 1 << 20));
    o.add("precision", evaluate.precision, training::kPrecisionHelp, one_of({"fp32", "bf16"}));
    o.add("test_x", evaluate.test_x, "test images");
    o.add("test_y", evaluate.test_y, "test labels, for a classifier");
    o.group("Program");
    add_device_options(o, common);
    add_log_options(o, common);
    add_json_option(o, common);
  }
};

struct CheckCommand {
  CheckOptions check;
  cli::CommonOptions common;
  cli::Options options{"run check", "Compares this build's kernels for a device with LibTorch's operations.",
                       "run check --device cuda:0"};

  CheckCommand() {
    options.group("Program");
    cli::add_device_options(options, common);
    cli::add_log_options(options, common);
    cli::add_json_option(options, common);
  }
};

int run_train(TrainCommand& command) {
  command.complete();
  const auto& train = command.train;
  cli::Terminal terminal("steps", command.common);
  const auto result = commands().train(train, terminal.hooks());
  terminal.finish();
  if (train.launch.rank > 0) return 0;  // rank 0 reports
  const char* score = train.classify ? "val_acc" : "val_loss";
  if (command.common.json) {
    cli::JsonObject json;
    json.add("best_checkpoint", result.best_checkpoint).add("step", result.best_step).add(score, result.best_score);
    json.add("last_checkpoint", result.last_checkpoint).add("seed", train.seed);
    json.add("last_step", result.last_step).add("stopped_early", result.stopped_early);
    if (result.stopped_early)
      json.add("stop_reason", "val_acc has not improved for " + std::to_string(result.bad_validations) +
                                  " validations (--patience " + std::to_string(*train.patience) + ")");
    std::printf("%s\n", json.text().c_str());
  } else {
    std::printf("%s: step %lld, %s %.6f\n", result.best_checkpoint.c_str(), static_cast<long long>(result.best_step),
                score, result.best_score);
  }
  return 0;
}

int run_test(TestCommand& command) {
  auto& evaluate = command.evaluate;
  if (command.classify) evaluate.classify = true;
  evaluate.device = command.common.device;
  evaluate.threads = command.common.threads;
  cli::Terminal terminal("images", command.common);
  const auto result = commands().evaluate(evaluate, terminal.hooks());
  terminal.finish();
  if (command.common.json) {
    cli::JsonObject json;
    json.add("test_loss", result.loss);
    if (result.bits_per_dim) json.add("bits_per_dim", *result.bits_per_dim);
    if (result.accuracy) json.add("test_acc", *result.accuracy);
    json.add("images", result.count);
    std::printf("%s\n", json.text().c_str());
    return 0;
  }
  const auto images = static_cast<long long>(result.count);
  if (result.accuracy)
    std::printf("test_loss %.6f nats/label, test_acc %.4f (%lld images)\n", result.loss, *result.accuracy, images);
  else
    std::printf("test_loss %.6f nats/pixel, %.6f bits/dim (%lld images)\n", result.loss, *result.bits_per_dim, images);
  return 0;
}

std::string in_words(const CheckRow& row) {
  char numbers[128];
  if (!row.failure.empty()) return row.failure;
  std::snprintf(numbers, sizeof numbers, "error %.1e, allowed %.1e, %.3g ms, LibTorch %.3g ms%s", row.error,
                row.allowed, row.milliseconds, row.of_libtorch, row.passed() ? "" : ": differs");
  return numbers;
}

// One line for each comparison; with --quiet only those that failed.
int run_check(CheckCommand& command) {
  const auto& common = command.common;
  command.check.device = common.device;
  command.check.threads = common.threads;
  cli::Terminal terminal("comparisons", common);
  const auto print = [&](const CheckRow& row) {
    if (common.json || (common.quiet && row.passed())) return;
    std::printf("%-26s %-48s %s\n", row.work.c_str(), row.shape.c_str(), in_words(row).c_str());
    (void)std::fflush(stdout);
  };
  const auto result = commands().check(command.check, print, terminal.hooks());
  terminal.finish();
  if (common.json) {
    cli::JsonObject json;
    json.add("device", result.device).add("kernels", result.kernels);
    json.add("comparisons", result.rows).add("failed", result.failed);
    std::printf("%s\n", json.text().c_str());
  } else if (!common.quiet) {
    const auto rows = static_cast<long long>(result.rows), failed = static_cast<long long>(result.failed);
    std::printf("%s, %s: %lld of %lld comparisons failed\n", result.device.c_str(),
                result.kernels.empty() ? "no kernels of this build" : result.kernels.c_str(), failed, rows);
  }
  return result.failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::string name = "run";
  cli::run_program(
      name,
      [&] {
        TrainCommand train;
        TestCommand test;
        CheckCommand check;
        auto arguments = cli::arguments_of(argc, argv);
        const auto* chosen = cli::choose_command(
            "run", arguments, {{"train", &train.options}, {"test", &test.options}, {"check", &check.options}});
        if (!chosen) return 0;
        name = chosen->command();  // so that an error names its --help
        if (chosen == &train.options) return train.options.parse(arguments) ? run_train(train) : 0;
        if (chosen == &test.options) return test.options.parse(arguments) ? run_test(test) : 0;
        return check.options.parse(arguments) ? run_check(check) : 0;
      },
      "try a smaller model or --batch_size");
}
