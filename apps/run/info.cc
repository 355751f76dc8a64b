#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "apps/run/command.h"
#include "igpt/commands/commands.h"
#include "igpt/drawing/ticks.h"
#include "igpt/formats/json_text.h"

namespace igpt {
namespace {

using drawing::with_commas;

class InfoCommand final : public Command {
 public:
  InfoCommand()
      : Command({"run info", "Tells what a checkpoint is: model, parameters, palette and training.",
                 "run info models/fmnist_gen.ckpt"}) {
    options.positional("CKPT", checkpoint_, "checkpoint of a model");
    options.group("Program");
    cli::add_json_option(options, common);
  }
  int run() override;

 private:
  std::string checkpoint_;
};

void print_row(const std::string& name, const std::string& value) {
  std::printf("  %-22s %s\n", cli::single_line(name).c_str(), cli::single_line(value).c_str());
}

void print_settings(const FieldValues& settings) {
  for (const auto& [name, value] : settings)
    if (const std::string text = to_text(value); !text.empty()) print_row(name, text);
}

// Layers of the same size that follow each other are one row.
void print_parameters(const CheckpointInfo& info) {
  const auto& layers = info.parameters;
  for (size_t first = 0, end; first < layers.size(); first = end) {
    end = first + 1;
    while (end < layers.size() && layers[first].first.starts_with("layers.") &&
           layers[end].first.starts_with("layers.") && layers[end].second == layers[first].second)
      ++end;
    const bool several = end - first > 1;
    print_row(layers[first].first + (several ? " to " + layers[end - 1].first : ""),
              with_commas(layers[first].second) + (several ? " each" : ""));
  }
}

struct Colour {
  unsigned red, green, blue;
};

Colour colour_of(const data::Palette& palette, int64_t k) {
  const uint8_t* first = palette.colours.data() + k * palette.channels;
  return palette.channels == 3 ? Colour{first[0], first[1], first[2]} : Colour{first[0], first[0], first[0]};
}

// As a strip of coloured blanks; where there is no terminal, as numbers.
void print_palette(const data::Palette& palette) {
  constexpr int64_t kInRow = 64, kShown = 16;
  const bool in_colour = isatty(STDOUT_FILENO) == 1 && !std::getenv("NO_COLOR");
  if (!in_colour) {
    std::printf("  ");
    for (int64_t k = 0; k < std::min(palette.size(), kShown); ++k) {
      const auto [red, green, blue] = colour_of(palette, k);
      std::printf("#%02x%02x%02x ", red, green, blue);
    }
    if (palette.size() > kShown) std::printf("and %s others", with_commas(palette.size() - kShown).c_str());
    std::printf("\n");
    return;
  }
  const int64_t width = palette.size() <= kInRow / 2 ? 2 : 1;  // of a colour
  for (int64_t row = 0; row < palette.size(); row += kInRow) {
    std::printf("  ");
    for (int64_t k = row; k < std::min(palette.size(), row + kInRow); ++k) {
      const auto [red, green, blue] = colour_of(palette, k);
      std::printf("\x1b[48;2;%u;%u;%um%*s", red, green, blue, static_cast<int>(width), "");
    }
    std::printf("\x1b[0m\n");
  }
}

std::string in_words(const data::Palette& palette) {
  return with_commas(palette.size()) + (palette.channels == 1 ? " greys" : " RGB colours") +
         (palette.centroids.empty() ? "" : ", rounded from floats");
}

void print_training(const CheckpointInfo& info) {
  if (!info.dataset.empty()) print_row("data set", info.dataset);
  print_row("updates done", with_commas(info.global_step));
  print_row("epoch", with_commas(info.epoch));
  if (info.best_step)
    print_row(info.classify ? "best val_acc" : "best val_loss",
              to_text(info.best_score) + " after step " + with_commas(*info.best_step));
  print_row("--resume",
            info.is_resumable ? "continues it" : "cannot continue it; --pretrained starts from its weights");
  print_settings(info.training);
}

bool is_of_neighbours(const std::string& option) {
  return option == "neighbours" || option == "table_rank" || option == "conv_taps";
}

bool embeds_neighbours(const std::string& arch) {
  return std::ranges::any_of(kArchitectures, [&](const Architecture& architecture) {
    return architecture.name == arch && architecture.properties.neighbours > 0;
  });
}

formats::OrderedJson json_of(const FieldValues& settings) {
  auto json = formats::OrderedJson::object();
  for (const auto& [name, value] : settings) json[name] = formats::to_json(value);
  return json;
}

formats::OrderedJson json_of(const CheckpointInfo& info) {
  formats::OrderedJson json;
  json["model"] = json_of(values_of(info.model));
  if (info.model.final_norm) json["model"]["final_norm"] = *info.model.final_norm;
  json["classify"] = info.classify;
  json["parameters"] = info.parameter_count();
  for (const auto& [layer, count] : info.parameters) json["parameters_by_layer"][layer] = count;
  json["palette"] = nullptr;
  if (info.palette) {
    json["palette"] = formats::OrderedJson::array();
    for (int64_t k = 0; k < info.palette->size(); ++k) {
      const auto [red, green, blue] = colour_of(*info.palette, k);
      json["palette"].push_back({red, green, blue});
    }
  }
  json["dataset"] = info.dataset.empty() ? formats::OrderedJson() : formats::OrderedJson(info.dataset);
  json["global_step"] = info.global_step;
  json["epoch"] = info.epoch;
  json["resumable"] = info.is_resumable;
  if (info.best_step) {
    json["best_step"] = *info.best_step;
    json[info.classify ? "best_val_acc" : "best_val_loss"] = info.best_score;
  }
  json["training"] = json_of(info.training);
  return json;
}

int InfoCommand::run() {
  const CheckpointInfo info = commands().describe_checkpoint(checkpoint_);
  if (common.json) {
    std::printf("%s\n", formats::json_text(json_of(info)).c_str());
    return 0;
  }
  std::printf("%s: %s, a %s of %s parameters\n\nModel\n", cli::single_line(checkpoint_).c_str(),
              info.model.arch.c_str(), info.classify ? "classifier" : "generative model",
              with_commas(info.parameter_count()).c_str());
  for (const auto& setting : values_of(info.model))
    if (!is_of_neighbours(setting.first) || embeds_neighbours(info.model.arch)) print_settings({setting});
  if (info.model.final_norm) print_row("final_norm", *info.model.final_norm ? "true" : "false");
  std::printf("\nParameters\n");
  print_parameters(info);
  std::printf("\nPalette\n");
  print_row("colours", info.palette ? in_words(*info.palette) : "not known");
  if (info.palette) print_palette(*info.palette);
  std::printf("\nTraining\n");
  print_training(info);
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_info_command() {
  return std::make_unique<InfoCommand>();
}

}  // namespace igpt
