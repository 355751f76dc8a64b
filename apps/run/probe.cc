#include <cmath>
#include <cstdio>
#include <string>

#include "apps/data_dir_option.h"
#include "apps/run/command.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"
#include "igpt/error.h"
#include "igpt/formats/json_text.h"

namespace igpt {
namespace {

class ProbeCommand final : public Command {
 public:
  ProbeCommand();
  int run() override;

 private:
  void choose_layer();
  void print(const probe::ProbeRow& row) const;
  void print_json(const probe::ProbeResult& result) const;

  probe::ProbeOptions probe_;
  DataDirOption data_dir_;
  std::string layer_ = "all";
};

ProbeCommand::ProbeCommand()
    : Command({"run probe",
               "Tells how well a logistic regression on the features of each layer classifies the test images.",
               "run probe models/fmnist_gen.ckpt --layer all"}) {
  options.positional("CKPT", probe_.checkpoint, "checkpoint of a trained model");
  options.group("Probe");
  options.add("layer", layer_, "0: what the first block reads, and so on; the last: what the heads read; or all", {},
              {.placeholder = "all|N"});
  options.add("limit", probe_.limit, "only the first training images", at_least(2), {.shown_default = "all"});
  options.add("csv", probe_.csv, "also write the table to this file", {}, {.placeholder = "FILE"});
  options.add("batch_size", probe_.batch_size, "images in a batch", between(1, 1 << 20));
  constexpr Attributes kFile{.placeholder = "FILE"};
  options.group("Data");
  options.add("train_x", probe_.data.train_x, "training images", {}, kFile);
  options.add("train_y", probe_.data.train_y, "training labels", {}, kFile);
  options.add("test_x", probe_.data.test_x, "test images", {}, kFile);
  options.add("test_y", probe_.data.test_y, "test labels", {}, kFile);
  data_dir_.add(options);
  options.add("seed", probe_.seed, "seed of the images that choose the penalty", any_seed());
  add_program_options();
}

void ProbeCommand::choose_layer() {
  if (layer_ == "all") return;
  const bool is_number = !layer_.empty() && layer_.size() < 6 && layer_.find_first_not_of("0123456789") == layer_.npos;
  if (!is_number) throw UsageError("--layer " + layer_ + ": must be all or the number of a layer");
  probe_.layer = std::stoll(layer_);
}

// The bar is as long as the accuracy, from 0 to 1.
void ProbeCommand::print(const probe::ProbeRow& row) const {
  constexpr int kWidth = 40;
  if (common.json) return;
  const auto filled = static_cast<int>(std::lround(row.test_accuracy * kWidth));
  std::printf("layer %3lld  test_acc %.4f  %s%s  val_acc %.4f, penalty %.0e\n", static_cast<long long>(row.layer),
              row.test_accuracy, std::string(static_cast<size_t>(filled), '#').c_str(),
              std::string(static_cast<size_t>(kWidth - filled), '.').c_str(), row.val_accuracy, row.penalty);
  (void)std::fflush(stdout);
}

void ProbeCommand::print_json(const probe::ProbeResult& result) const {
  formats::OrderedJson json, layers = formats::OrderedJson::array();
  for (const auto& row : result.rows) {
    formats::OrderedJson layer;
    layer["layer"] = row.layer;
    layer["test_acc"] = row.test_accuracy;
    layer["test_loss"] = row.test_loss;
    layer["val_acc"] = row.val_accuracy;
    layer["penalty"] = row.penalty;
    layers.push_back(layer);
  }
  json["layers"] = layers;
  json["train_images"] = result.train_images;
  json["test_images"] = result.test_images;
  json["features"] = result.features;
  json["seed"] = probe_.seed;
  std::printf("%s\n", formats::json_text(json).c_str());
}

int ProbeCommand::run() {
  data_dir_.apply(options);
  choose_layer();
  probe_.device = common.device;
  probe_.threads = common.threads;
  cli::Terminal terminal("images", common);
  const auto result = commands().probe(
      probe_, [&](const auto& row) { print(row); }, terminal.hooks());
  terminal.finish();
  if (common.json) print_json(result);
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_probe_command() {
  return std::make_unique<ProbeCommand>();
}

}  // namespace igpt
