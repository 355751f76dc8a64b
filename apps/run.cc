#include <algorithm>
#include <cstdio>
#include <string>

#include "igpt/cli/json.h"
#include "igpt/cli/launch.h"
#include "igpt/cli/options.h"
#include "igpt/cli/program.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands.h"
#include "igpt/data/split.h"
#include "igpt/error.h"

namespace {

using namespace igpt;

// Options that say where and how to work, not what: free to differ when a run is resumed, and no part of its settings.
constexpr const char* kSessionOptions[] = {"resume",       "config", "device",  "threads",
                                           "rank_timeout", "quiet",  "verbose", "json"};
// Settings that a resumed run may be given anew: its data may have moved, it may go on for longer, elsewhere, or
// with other pictures.
constexpr const char* kResumableOptions[] = {"train_x", "train_y",  "test_x",      "test_y",
                                             "steps",   "patience", "sample_grid", "activation_checkpointing"};

template <size_t N>
bool contains(const char* const (&names)[N], const std::string& name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

struct TrainCommand {
  training::TrainOptions train;
  cli::CommonOptions common;
  std::string config;
  cli::Options options{"run train", "Trains an Image GPT to predict the next pixel, or to classify.",
                       "run train --name fmnist_gen --steps 25000"};

  TrainCommand();
  void complete();
  void translate_precision();
  void note_differences() const;
};

TrainCommand::TrainCommand() {
  using namespace cli;
  Allowed<std::string> precisions = one_of({"fp32", "bf16", "32", "16"});
  precisions.words = "fp32 or bf16 (32 or 16, as the original has it)";
  auto& o = options;
  o.group("Run");
  o.add("n,name", train.name, "folder of the run under --log_dir");
  o.add("log_dir", train.log_dir, "where runs are kept");
  o.add("pretrained", train.pretrained, "checkpoint whose weights to start from");
  o.add("resume", train.resume, "checkpoint (last.ckpt) of a run to continue, with its own options");
  o.add("config", config, "YAML file with options, the original's too; the command line goes before it");
  o.add("classify", train.classify, "train a classifier on the labels");
  o.group("Model");
  o.add("arch", train.model.arch, "the original's model, or one that knows rows and columns",
        one_of({kOriginalArch, k2dArch}));
  o.add("neighbours", train.model.neighbours, "pixels around that image-gpt-2d embeds", between(1, 60));
  o.add("embed_dim", train.model.embed_dim, "width D", at_least(1));
  o.add("num_heads", train.model.num_heads, "attention heads, divide the width", at_least(1));
  o.add("num_layers", train.model.num_layers, "blocks", at_least(1));
  o.add("num_pixels", train.model.num_pixels, "side of an image", at_least(1));
  o.add("num_vocab", train.model.num_vocab, "colours of the palette", between(2, data::kLargestVocab));
  o.add("num_classes", train.model.num_classes, "classes of the labels", at_least(1));
  o.group("Training");
  o.add("steps", train.steps, "optimizer updates", at_least(1));
  o.add("batch_size", train.batch_size, "images a batch", between(1, 1 << 20));
  o.add("accumulate", train.accumulate, "batches for one update", between(1, 1 << 20));
  o.alias("accumulate_grad_batches", "accumulate", [](const std::string& batches) { return batches; });
  o.add("learning_rate", train.learning_rate, "peak rate of Adam", greater_than(0));
  o.add("schedule", train.schedule, "how the rate falls; a classifier's stays constant unless this is given",
        one_of({"cosine", "linear", "constant"}));
  o.add("hold", train.hold, "share of the steps before the rate falls", within(0, 1));
  o.add("warmup_steps", train.warmup_steps, "steps in which the rate rises from zero", at_least(0));
  o.add("grad_clip", train.grad_clip, "largest norm of the gradients (off)", greater_than(0));
  o.add("beta1", train.beta1, "decay of Adam's first moment", half_open(0, 1));
  o.add("beta2", train.beta2, "decay of Adam's second moment", half_open(0, 1));
  o.add("weight_decay", train.weight_decay, "of AdamW", not_negative());
  o.add("ema", train.ema, "decay of the weights' moving average, which is validated and saved; 0: none",
        half_open(0, 1));
  o.add("embedding_std", train.embedding_std, "spread of the embeddings' initial values", greater_than(0));
  o.add("augment_shift", train.augment.shift, "pixels by which training images are shifted at most", at_least(0));
  o.add("augment_flip", train.augment.flip, "mirror half of the training images, left to right");
  o.add("generative_weight", train.generative_weight, "share of the generative loss in a classifier's", not_negative());
  o.add("patience", train.patience, "validations without a better val_acc before a classifier stops", at_least(1));
  o.add("val_interval", train.val_interval, "steps between validations (an epoch)", at_least(1));
  o.add("checkpoint_interval", train.checkpoint_interval, "steps between writings of last.ckpt (each validation)",
        at_least(1));
  o.add("sample_grid", train.sample_grid, "N x N images drawn for TensorBoard at each validation; 0: none",
        between(0, 32));
  o.add("precision", train.precision, "of matrix products; bf16 on a CPU takes AMX, else small models use fp32",
        precisions);
  o.add("activation_checkpointing", train.activation_checkpointing,
        "compute each block again for its gradients, for less memory; auto: where it is needed; fused kernels never do",
        one_of({"auto", "on", "off"}));
  add_seed_option(o, common);
  o.group("Data");
  o.add("train_x", train.data.train_x, "training images");
  o.add("train_y", train.data.train_y, "training labels, for --classify");
  o.add("test_x", train.data.test_x, "test images");
  o.add("test_y", train.data.test_y, "test labels");
  o.group("Program");
  add_device_options(o, common);
  o.add("rank_timeout", train.launch.timeout, "seconds that processes training together wait for each other",
        between(1, 1000000));
  add_log_options(o, common);
  add_json_option(o, common);
}

// What follows from the options that were given: a configuration file, the run to resume, a drawn seed.
void TrainCommand::complete() {
  if (!config.empty()) {
    options.load_yaml(config);
    note_differences();
  }
  if (!train.resume.empty()) {
    for (const auto& [name, text] : options.values())
      if (options.given(name) && !contains(kSessionOptions, name) && !contains(kResumableOptions, name))
        throw UsageError("--" + name +
                         ": a resumed run keeps its options; leave it out, or start a new run with --pretrained");
    for (const auto& [name, text] : commands().settings_of_run(train.resume)) {
      if (contains(kSessionOptions, name))
        throw InputError(train.resume + ": its training state sets " + name + ", which no run stores; do not trust it");
      options.fill(name, text, train.resume);
    }
  }
  options.require("name", "it is the folder of the run, for example --name fmnist_gen");
  if (train.classify && !options.given("schedule")) train.schedule = "constant";
  common.seed = train.seed = cli::seed_of(common);  // a drawn one is a setting too
  train.device = common.device;
  train.threads = common.threads;
  const int64_t timeout = train.launch.timeout;
  train.launch = cli::read_launch();
  train.launch.timeout = timeout;
  translate_precision();
  for (const auto& [name, text] : options.values()) {
    if (options.given(name)) train.given.push_back(name);
    if (!contains(kSessionOptions, name)) train.settings.emplace_back(name, text);
  }
}

// What a configuration file of the original, known by its names for some options, means there without saying so.
void TrainCommand::note_differences() const {
  if (!options.given("gpus") && !options.given("accumulate_grad_batches")) return;
  if (!train.classify && !options.given("warmup_steps"))
    cli::note(common, config + ": the original warms up for 500 steps here; for the same add warmup_steps: 500");
  if (train.classify && !options.given("generative_weight"))
    cli::note(common, config + ": the original adds the generative loss here; for the same add generative_weight: 1");
}

// The original's names of a precision become ours, so that a run stores these alone.
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
    o.add("classify", classify, "test the class logits, whatever the checkpoint was trained for");
    o.add("limit", evaluate.limit, "first images only (all)", at_least(1));
    o.add("per_image", evaluate.per_image, ".npy for the nats of each image, or a classifier's logits");
    o.add("batch_size", evaluate.batch_size, "images at a time", between(1, 1 << 20));
    o.add("precision", evaluate.precision, "of matrix products; bf16 on a CPU takes AMX, else small models use fp32",
          one_of({"fp32", "bf16"}));
    o.add("test_x", evaluate.test_x, "test images");
    o.add("test_y", evaluate.test_y, "test labels, for a classifier");
    o.group("Program");
    add_device_options(o, common);
    add_log_options(o, common);
    add_json_option(o, common);
  }
};

int run_train(TrainCommand& command) {
  command.complete();
  const auto& train = command.train;
  cli::Terminal terminal("steps", command.common);
  const auto result = commands().train(train, terminal.hooks());
  terminal.finish();
  if (train.launch.rank > 0) return 0;  // rank 0 tells
  const char* score = train.classify ? "val_acc" : "val_loss";
  if (command.common.json) {
    cli::JsonObject json;
    json.add("best_checkpoint", result.best_checkpoint).add("step", result.best_step).add(score, result.best_score);
    json.add("last_checkpoint", result.last_checkpoint).add("seed", train.seed);
    json.add("last_step", result.last_step).add("stopped_early", result.stopped_early);
    if (result.stopped_early)
      json.add("stop_reason", "val_acc has not improved for " + std::to_string(result.bad_validations) +
                                  " validations (--patience " + std::to_string(train.patience) + ")");
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

}  // namespace

int main(int argc, char** argv) {
  std::string name = "run";
  cli::run_program(
      name,
      [&] {
        TrainCommand train;
        TestCommand test;
        auto arguments = cli::arguments_of(argc, argv);
        const auto* chosen =
            cli::choose_command("run", arguments, {{"train", &train.options}, {"test", &test.options}});
        if (!chosen) return 0;
        name += chosen == &train.options ? " train" : " test";  // whose --help an error shall name
        if (chosen == &train.options) return train.options.parse(arguments) ? run_train(train) : 0;
        return test.options.parse(arguments) ? run_test(test) : 0;
      },
      "try a smaller model or --batch_size");
}
