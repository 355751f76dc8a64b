#include <cstdio>
#include <string>
#include <utility>

#include "apps/data_dir_option.h"
#include "apps/run/command.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"
#include "igpt/counted.h"
#include "igpt/formats/json_text.h"

namespace igpt {
namespace {

class TestCommand final : public Command {
 public:
  TestCommand();
  int run() override;

 private:
  training::EvaluateOptions evaluate_;
  DataDirOption data_dir_;
  bool classify_ = false;
};

TestCommand::TestCommand()
    : Command(
          {"run test", "Prints the loss of a checkpoint over the test images.", "run test models/fmnist_gen.ckpt"}) {
  constexpr Attributes kFile{.placeholder = "FILE"};
  options.positional("CKPT", evaluate_.checkpoint, "checkpoint of this project or the original");
  options.group("Test");
  options.add("classify", classify_, "test the class logits even if the checkpoint was trained as a generative model");
  options.add("limit", evaluate_.limit, "only the first images", at_least(1), {.shown_default = "all"});
  options.add("per_image", evaluate_.per_image,
              "also write the nats of each image, or a classifier's logits, to this file",
              cli::file_ending_in({".npy"}), kFile);
  options.add("figure", evaluate_.figure,
              "also draw the ten likeliest and the ten least likely images, and a map of the nats by pixel",
              cli::file_ending_in({".png", ".svg"}), {.placeholder = "FILE"});
  options.add("batch_size", evaluate_.batch_size, "images in a batch", between(1, 1 << 20));
  options.add("precision", evaluate_.precision, training::kPrecisionHelp, one_of({"fp32", "bf16"}));
  options.add("test_x", evaluate_.test_x, "test images", {}, kFile);
  options.add("test_y", evaluate_.test_y, "test labels, for a classifier or a model of --conditional", {}, kFile);
  data_dir_.add(options);
  add_program_options();
}

int TestCommand::run() {
  data_dir_.apply(options);
  if (classify_) evaluate_.classify = true;
  evaluate_.device = common.device;
  evaluate_.threads = common.threads;
  cli::Terminal terminal("images", common);
  const auto result = commands().evaluate(evaluate_, terminal.hooks());
  terminal.finish();
  if (common.json) {
    formats::OrderedJson json;
    json["test_loss"] = result.loss;
    if (result.bits_per_dim) json["bits_per_dim"] = *result.bits_per_dim;
    if (result.accuracy) json["test_acc"] = *result.accuracy;
    json["images"] = result.count;
    if (!evaluate_.per_image.empty()) json["per_image"] = evaluate_.per_image;
    if (!evaluate_.figure.empty()) json["figure"] = evaluate_.figure;
    std::printf("%s\n", formats::json_text(json).c_str());
    return 0;
  }
  const std::string images = counted(result.count, "image");
  if (result.accuracy && result.bits_per_dim)
    std::printf("test_loss %.6f nats/pixel given the class, %.6f bits/dim; test_acc %.4f of the likeliest class (%s)\n",
                result.loss, *result.bits_per_dim, *result.accuracy, images.c_str());
  else if (result.accuracy)
    std::printf("test_loss %.6f nats/label, test_acc %.4f (%s)\n", result.loss, *result.accuracy, images.c_str());
  else
    std::printf("test_loss %.6f nats/pixel, %.6f bits/dim (%s)\n", result.loss, *result.bits_per_dim, images.c_str());
  for (const auto& [file, content] :
       {std::pair(evaluate_.per_image, result.bits_per_dim ? "nats of each image" : "logits of each image"),
        {evaluate_.figure, "the likeliest and the least likely images, nats by pixel"}})
    if (!file.empty()) std::printf("%s: %s\n", cli::single_line(file).c_str(), content);
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_test_command() {
  return std::make_unique<TestCommand>();
}

}  // namespace igpt
