#include <cstdio>
#include <string>
#include <vector>

#include "apps/add_sampling_options.h"
#include "igpt/cli/program.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"
#include "igpt/error.h"
#include "igpt/formats/json_text.h"

namespace {

using namespace igpt;

struct GifCommand {
  sampling::DrawingOptions drawing;
  cli::CommonOptions common;
};

cli::Options declare(GifCommand& gif) {
  auto& drawing = gif.drawing;
  Allowed<double> frame_rates = within(0.01, 50);
  frame_rates.words += ", since browsers play shorter frames than 20 ms at 10 a second";
  cli::Options options("gif", "Draws images from nothing, pixel by pixel, as an animated GIF.",
                       "gif models/fmnist_gen.ckpt --rows 3 --cols 8 --seed 1 -o out.gif");
  options.positional("CKPT", drawing.checkpoint, "the checkpoint of a trained model");
  options.group("Images");
  options.add("rows", drawing.animation.rows, "rows of images", between(1, 100));
  options.add("class", drawing.classes,
              "classes of the rows, in turn, from a model of run train --conditional; with it, there is a row for each",
              at_least(0), {.shown_default = "all", .placeholder = "N,..."});
  options.add("cols", drawing.animation.columns, "images in a row", between(1, 100));
  add_sampling_options(options, drawing.sampling, drawing.precision, gif.common);
  options.group("Output");
  options.add("o,output", drawing.output, "the animation", cli::file_ending_in({".gif"}), {.placeholder = "FILE"});
  options.add("fps", drawing.animation.fps, "frames per second", frame_rates);
  options.add("scale", drawing.animation.scale, "enlarges each image, nearest neighbour", within(0.01, 100));
  options.add("downsample", drawing.animation.downsample, "pixels drawn from one frame to the next", at_least(1));
  cli::add_json_option(options, gif.common);
  cli::add_log_options(options, gif.common);
  options.group("Computation");
  cli::add_device_options(options, gif.common);
  return options;
}

void report(const GifCommand& gif, const sampling::DrawingResult& result) {
  const auto& [drawing, common] = gif;
  if (common.json) {
    formats::OrderedJson json;
    json["output"] = drawing.output;
    json["seed"] = drawing.sampling.seed;
    json["frames"] = result.frames;
    json["images"] = result.images;
    if (!result.classes.empty()) json["classes"] = result.classes;
    std::puts(formats::json_text(json).c_str());
  } else {
    std::printf("%s: %lld x %lld images%s in %lld frames, seed %lld\n", cli::single_line(drawing.output).c_str(),
                static_cast<long long>(drawing.animation.rows), static_cast<long long>(drawing.animation.columns),
                of_classes(result.classes).c_str(), static_cast<long long>(result.frames),
                static_cast<long long>(drawing.sampling.seed));
  }
}

int animate(const std::vector<std::string>& arguments) {
  GifCommand gif;
  cli::Options options = declare(gif);
  if (!options.parse(arguments)) return 0;
  auto& [drawing, common] = gif;
  if (options.given("class") && drawing.classes.empty()) throw UsageError("--class names no class");
  if (options.given("class") && !options.given("rows"))
    drawing.animation.rows = static_cast<int64_t>(drawing.classes.size());
  drawing.device = common.device;
  drawing.threads = common.threads;
  drawing.sampling.seed = cli::seed_of(common);
  cli::Terminal terminal("pixels", common);
  const auto result = commands().animate(drawing, terminal.hooks());
  terminal.finish();
  report(gif, result);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return igpt::cli::run_program(
      "gif", [&] { return animate(igpt::cli::arguments_of(argc, argv)); }, "lower --rows or --cols");
}
