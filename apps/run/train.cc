#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/data_dir_option.h"
#include "apps/run/command.h"
#include "igpt/cli/launch.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"
#include "igpt/error.h"
#include "igpt/formats/json_text.h"

namespace igpt {
namespace {

class TrainCommand final : public Command {
 public:
  TrainCommand();
  int run() override;

 private:
  void complete();
  void find_run_to_resume();
  void take_settings_of_run();
  bool seed_is_open() const { return !options.given("seed"); }  // of --print_config and --dry_run
  formats::OrderedJson settings() const;
  void print_configuration() const;
  void print_plan();
  void translate_precision();
  std::string not_given(const std::vector<training::UnstoredSetting>& settings) const;
  void note_older_run() const;
  void note_differences() const;

  training::TrainOptions train_;
  DataDirOption data_dir_;
  std::string config_;
  bool print_config_ = false, dry_run_ = false;
  bool name_says_where_ = false;  // the run to resume, whatever name it was trained with
};

TrainCommand::TrainCommand()
    : Command({"run train", "Trains an Image GPT to predict the next pixel, or to classify.",
               "run train --name fmnist_gen --steps 25000"}) {
  constexpr Attributes kOfThisStart{.of_run = false, .placeholder = "FILE"};
  options.add_fields(train_);
  options.alias("accumulate_grad_batches", "accumulate", [](const std::string& batches) { return batches; });
  data_dir_.add(options);
  options.group("Run");
  options.add("config", config_,
              "YAML file with options, also one of the original's; the command line takes precedence", {},
              kOfThisStart);
  options.add("print_config", print_config_, "print the complete configuration, which --config reads, and do nothing",
              {}, kOfThisStart);
  options.add("dry_run", dry_run_, "check everything, tell what the training would be, and write nothing", {},
              kOfThisStart);
  add_program_options();
}

// Completes the options with the configuration file, the run to resume, and a drawn seed.
void TrainCommand::complete() {
  data_dir_.apply(options);  // that of the command line goes before the files that a configuration names
  if (!config_.empty()) {
    options.load_yaml(config_);
    note_differences();
    data_dir_.apply(options);
  }
  const int64_t timeout = train_.launch.timeout;
  train_.launch = cli::read_launch();
  train_.launch.timeout = timeout;
  translate_precision();
  find_run_to_resume();
  if (!train_.resume.empty()) take_settings_of_run();
  if (!print_config_) options.require("name", "it is the folder of the run, for example --name fmnist_gen");
  if (!options.given("seed")) train_.seed = cli::draw_seed();
  train_.device = common.device;
  train_.threads = common.threads;
  for (const auto& [name, text] : options.values())
    if (options.given(name)) train_.given.push_back(name);
}

void TrainCommand::find_run_to_resume() {
  if (train_.resume.empty()) return;
  const std::string asked = std::exchange(train_.resume, "");
  train_.resume = commands().checkpoint_to_resume(asked, train_.log_dir, train_.name);
  name_says_where_ = asked == "last";
  if (!train_.resume.empty()) return;
  const std::string none = "--resume last: " + train_.log_dir + " has no run";
  if (train_.name.empty())
    throw UsageError(none + " with a last.ckpt; to begin one, give it a name, for example --name fmnist_gen");
  if (train_.launch.rank == 0)
    cli::note(common, none + " of " + train_.name + " with a last.ckpt; beginning a new one");
}

// A resumed run keeps its settings, but for those that may be given anew, or that say where it lies.
void TrainCommand::take_settings_of_run() {
  const auto settings = commands().settings_of_run(train_.resume);
  for (const auto& [name, text] : options.values()) {
    if (!options.given(name) || !options.attributes(name)->of_run || options.attributes(name)->free_on_resume) continue;
    if (name == "name" && name_says_where_) continue;
    const auto own = std::ranges::find(settings, name, &std::pair<std::string, std::string>::first);
    if (own != settings.end() && own->second == text) continue;
    const bool without = own == settings.end() || own->second.empty();
    throw UsageError("--" + name + " " + text + ": a resumed run keeps its options, and " + train_.resume +
                     (without ? " was trained without this one" : " was trained with " + own->second) +
                     "; leave the option out, or leave --resume out for a new run");
  }
  for (const auto& [name, text] : settings) {
    const Attributes* attributes = options.attributes(name);
    if (attributes && !attributes->of_run)
      throw InputError(train_.resume + ": its training state sets " + name + ", which no run stores; do not trust it");
    options.fill(name, text, train_.resume);
  }
}

// Those of `settings` that neither the command line nor the configuration file has.
std::string TrainCommand::not_given(const std::vector<training::UnstoredSetting>& settings) const {
  std::string text;
  for (const auto& [option, value] : settings)
    if (!options.given(option)) text += (text.empty() ? "" : ", ") + std::string(option) + ": " + value;
  return text;
}

// A run's hparams.yaml names every option that there was when the run began.
void TrainCommand::note_older_run() const {
  if (std::filesystem::path(config_).filename() != "hparams.yaml") return;
  std::vector<training::UnstoredSetting> settings;
  for (const auto& setting : training::kUnstoredByOlderRuns)
    if (train_.classify || setting.option != std::string_view("generative_weight")) settings.push_back(setting);
  const auto missing = not_given(settings);
  if (!missing.empty())
    cli::note(common, config_ + ": what it leaves out takes the present default; its run had " + missing);
}

// Says what the original does without being told. Its configuration files are known by its names for some options.
void TrainCommand::note_differences() const {
  if (!options.given("gpus") && !options.given("accumulate_grad_batches")) return note_older_run();
  std::vector<training::UnstoredSetting> settings{
      {"optimizer", "adam"}, {"grad_clip", "0"}, {"ema", "0"}, {"embedding_std", "1"}};
  if (train_.classify)
    settings.insert(settings.end(),
                    {{"schedule", "constant"}, {"warmup_steps", "0"}, {"generative_weight", "1"}, {"patience", "3"}});
  else
    settings.insert(settings.end(), {{"schedule", "cosine"}, {"hold", "0"}, {"warmup_steps", "500"}});
  const auto missing = not_given(settings);
  if (!missing.empty())
    cli::note(common, config_ + ": what it leaves out follows this project's recipe; the original's is " + missing);
}

// The original's names for a precision become ours, so that a run stores only ours.
void TrainCommand::translate_precision() {
  if (train_.precision == "32") train_.precision = "fp32";
  if (train_.precision != "16") return;
  train_.precision = "bf16";
  if (train_.launch.rank == 0)
    cli::note(common, "precision 16: taken as --precision bf16, where the original computes in fp16");
}

// As large as the unit that it is told in.
std::string in_bytes(int64_t bytes) {
  char text[32];
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  std::snprintf(text, sizeof text, mebibytes < 1024 ? "%.0f MiB" : "%.1f GiB",
                mebibytes < 1024 ? mebibytes : mebibytes / 1024);
  return text;
}

// The configuration as an object with the types of the options.
formats::OrderedJson TrainCommand::settings() const {
  formats::OrderedJson json;
  if (!train_.resume.empty()) json["resume"] = train_.resume;
  for (const auto& [name, value] : values_of(train_, [](const Attributes& option) { return option.of_run; }))
    if (name != "seed" || !seed_is_open()) json[name] = formats::to_json(value);
  return json;
}

void TrainCommand::print_configuration() const {
  if (common.json) {
    std::printf("%s\n", formats::json_text(settings()).c_str());
    return;
  }
  if (!train_.resume.empty()) std::printf("resume: %s\n", formats::json_text(train_.resume).c_str());
  const std::vector<std::string> open(seed_is_open() ? 1 : 0, "seed");
  std::printf("%s", options.yaml(open).c_str());
}

void TrainCommand::print_plan() {
  cli::Terminal terminal("steps", common);
  const auto plan = commands().plan_training(train_, terminal.hooks());
  terminal.finish();
  const auto count = [](int64_t number) { return static_cast<long long>(number); };
  if (common.json) {
    formats::OrderedJson json;
    json["configuration"] = settings();
    json["device"] = plan.device;
    json["kernels"] = plan.kernels;
    json["parameters"] = plan.parameters;
    json["dataset"] = plan.dataset;
    json["train_images"] = plan.train_images;
    json["validation_images"] = plan.validation_images;
    json["done_steps"] = plan.done_steps;
    json["steps"] = plan.steps;
    json["steps_per_epoch"] = plan.steps_per_epoch;
    json["memory"] = plan.memory;
    json["activation_checkpointing"] = plan.activation_checkpointing;
    std::printf("%s\n", formats::json_text(json).c_str());
    return;
  }
  print_configuration();
  std::printf("\ndevice       %s, %s\n", plan.device.c_str(), plan.kernels.c_str());
  std::printf("parameters   %lld\n", count(plan.parameters));
  std::printf("images       %s%s%lld to train, %lld to validate\n", plan.dataset.c_str(),
              plan.dataset.empty() ? "" : ", ", count(plan.train_images), count(plan.validation_images));
  const auto digits = [](double number) { return number < 1 ? 4 : 1; };
  const double epochs = static_cast<double>(plan.steps) / plan.steps_per_epoch;
  std::printf("steps        %lld to %lld, %.*f in an epoch, %.*f epochs in all%s\n", count(plan.done_steps),
              count(plan.steps), digits(plan.steps_per_epoch), plan.steps_per_epoch, digits(epochs), epochs,
              plan.done_steps >= plan.steps ? "; nothing is left to train, a larger --steps goes on" : "");
  std::printf("memory       about %s for data and model%s, beside LibTorch's own\n", in_bytes(plan.memory).c_str(),
              plan.activation_checkpointing ? ", with activation checkpointing" : "");
}

int TrainCommand::run() {
  complete();
  if ((print_config_ || dry_run_) && train_.launch.rank > 0) return 0;  // rank 0 tells
  if (print_config_ || dry_run_) {
    train_ = commands().configuration_of(train_);
    print_config_ ? print_configuration() : print_plan();
    return 0;
  }
  cli::Terminal terminal("steps", common);
  const auto result = commands().train(train_, terminal.hooks());
  terminal.finish();
  if (train_.launch.rank > 0) return 0;  // rank 0 reports
  const char* score = train_.classify ? "val_acc" : "val_loss";
  if (common.json) {
    formats::OrderedJson json;
    json["best_checkpoint"] = result.best_checkpoint;
    json["step"] = result.best_step;
    json[score] = result.best_score;
    json["last_checkpoint"] = result.last_checkpoint;
    json["seed"] = train_.seed;
    json["last_step"] = result.last_step;
    json["stopped_early"] = result.stopped_early;
    if (result.stopped_early)
      json["stop_reason"] = "val_acc has not improved for " + std::to_string(result.bad_validations) +
                            " validations (--patience " + std::to_string(*train_.patience) + ")";
    std::printf("%s\n", formats::json_text(json).c_str());
  } else {
    std::printf("%s: step %lld, %s %.6f\n", result.best_checkpoint.c_str(), static_cast<long long>(result.best_step),
                score, result.best_score);
  }
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_train_command() {
  return std::make_unique<TrainCommand>();
}

}  // namespace igpt
