#include <cstdio>
#include <string>

#include "apps/run/command.h"
#include "igpt/cli/terminal.h"
#include "igpt/formats/json_text.h"
#include "igpt/runs/learning_curves.h"
#include "igpt/training/train_options.h"

namespace igpt {
namespace {

class PlotCommand final : public Command {
 public:
  PlotCommand();
  int run() override;

 private:
  runs::CurvesOptions curves_;
  std::string log_dir_ = training::TrainOptions().log_dir;
};

PlotCommand::PlotCommand()
    : Command({"run plot", "Draws the loss curves of runs, and the accuracies of classifiers, into one picture.",
               "run plot fmnist_gen fmnist_gen_best/version_1 models/fmnist_gen.csv -o curves.png"}) {
  options.positionals("RUN", curves_.runs,
                      "NAME (its newest version) or NAME/version_N under --log_dir, the folder of a run, or a "
                      "metrics.csv");
  options.group("Curves");
  options.add("x_axis", curves_.x, "what the horizontal axis counts: optimizer updates, or images seen",
              one_of({"step", "images"}));
  options.add("metric", curves_.metric, "losses, validation accuracies, or both where a run has them",
              one_of({"both", "loss", "acc"}));
  options.add("log_y", curves_.log_y, "logarithmic axis of the losses");
  options.add("y_min", curves_.y_min, "where the axis of the losses begins", {}, {.shown_default = "chosen"});
  options.add("y_max", curves_.y_max, "where it ends", {},
              {.shown_default = "chosen so that the late steps can be read"});
  options.add("log_dir", log_dir_, "where runs are kept", {}, {.placeholder = "DIR"});
  options.group("Output");
  options.add("o,output", curves_.output, "the picture", cli::file_ending_in({".png", ".svg"}),
              {.placeholder = "FILE"});
  options.add("width", curves_.width, "of the picture, pixels", between(200, 10000));
  options.add("height", curves_.height, "of the picture, pixels", between(200, 10000));
  options.group("Program");
  cli::add_json_option(options, common);
}

int PlotCommand::run() {
  curves_.log_dir = log_dir_;
  const auto names = runs::plot_runs(curves_, cli::Terminal("runs", common).hooks());
  if (common.json) {
    formats::OrderedJson json;
    json["output"] = curves_.output;
    json["runs"] = names;
    std::printf("%s\n", formats::json_text(json).c_str());
    return 0;
  }
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + name;
  std::printf("%s: %s\n", cli::single_line(curves_.output).c_str(), cli::single_line(list).c_str());
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_plot_command() {
  return std::make_unique<PlotCommand>();
}

}  // namespace igpt
