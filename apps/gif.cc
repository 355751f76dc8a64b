#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/cli/json.h"
#include "igpt/cli/program.h"
#include "igpt/cli/progress.h"
#include "igpt/cli/signals.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/ops/device.h"
#include "igpt/sampling/animation.h"
#include "igpt/sampling/generate.h"

namespace {

using namespace igpt;

struct GifProgramOptions {
  std::string checkpoint, output = "out.gif";
  sampling::AnimationOptions animation;
  sampling::SamplingOptions sampling;
  cli::CommonOptions common;
};

cli::Options declare(GifProgramOptions& gif) {
  cli::Options options("gif", "Draws images from nothing, pixel by pixel, as an animated GIF.",
                       "gif models/fmnist_gen.ckpt --rows 3 --cols 8 --seed 1 -o out.gif");
  options.positional("CKPT", gif.checkpoint, "the checkpoint of a trained model");
  options.group("Images");
  options.add("rows", gif.animation.rows, "rows of images", cli::between(1, 100));
  options.add("cols", gif.animation.columns, "images in a row", cli::between(1, 100));
  options.group("Sampling");
  options.add("temperature", gif.sampling.temperature, "logits are divided by it", cli::greater_than(0));
  options.add("top_k", gif.sampling.top_k, "only the k likeliest tokens; 0 all, 1 greedy", cli::at_least(0));
  options.add("top_p", gif.sampling.top_p, "only the likeliest tokens that make up this probability",
              {"greater than 0, at most 1", [](double p) { return p > 0 && p <= 1; }});
  cli::add_seed_option(options, gif.common);
  options.group("Output");
  options.add("o,output", gif.output, "the animation");
  options.add("fps", gif.animation.fps, "frames a second", cli::within(0.01, 100));
  options.add("scale", gif.animation.scale, "enlarges each image, nearest neighbour", cli::within(0.01, 100));
  options.add("downsample", gif.animation.downsample, "pixels drawn from one frame to the next", cli::at_least(1));
  cli::add_json_option(options, gif.common);
  cli::add_log_options(options, gif.common);
  options.group("Computation");
  cli::add_device_options(options, gif.common);
  return options;
}

torch::Tensor draw(const GifProgramOptions& gif, const ImageGPT& model) {
  const int64_t images = gif.animation.rows * gif.animation.columns, side = model->options().num_pixels;
  std::vector<uint64_t> streams(static_cast<size_t>(images));
  std::iota(streams.begin(), streams.end(), uint64_t{0});
  cli::Progress progress(images * side * side, "pixels", gif.common.quiet);
  int64_t done = 0;
  const auto drawn = [&](const sampling::Drawn& progressed) {
    cli::throw_if_stopped();
    progress.update(done += progressed.pixels());
  };
  auto options = gif.sampling;
  options.seed = *gif.common.seed;
  const auto nothing = torch::empty({images, 0}, torch::kInt64);
  return sampling::generate(model, nothing, streams, options, drawn).view({images, side, side});
}

void report(const GifProgramOptions& gif, int64_t frames) {
  if (gif.common.json) {
    cli::JsonObject result;
    result.add("output", gif.output).add("seed", *gif.common.seed).add("frames", frames);
    result.add("images", gif.animation.rows * gif.animation.columns);
    std::puts(result.text().c_str());
  } else {
    std::printf("%s: %lld x %lld images in %lld frames, seed %lld\n", cli::printable(gif.output).c_str(),
                static_cast<long long>(gif.animation.rows), static_cast<long long>(gif.animation.columns),
                static_cast<long long>(frames), static_cast<long long>(*gif.common.seed));
  }
}

torch::Device prepare_device(const cli::CommonOptions& common) {
  ops::set_threads(common.threads);
  std::string why_not_cuda;
  const auto device = ops::choose_device(common.device, &why_not_cuda);
  if (!why_not_cuda.empty()) cli::note(common, "computing on the CPU: " + why_not_cuda);
  cli::detail(common, "device " + device.str() + ", " + std::to_string(at::get_num_threads()) + " CPU threads");
  return device;
}

int animate(const std::vector<std::string>& arguments) {
  GifProgramOptions gif;
  cli::Options options = declare(gif);
  if (!options.parse(arguments)) return 0;
  const auto device = prepare_device(gif.common);
  const Checkpoint checkpoint = read_checkpoint(gif.checkpoint);
  const int64_t side = checkpoint.model.num_pixels;
  sampling::check(gif.animation, side, checkpoint.model.num_vocab);
  { const formats::AtomicFile writable(gif.output); }  // better known before the work than after
  if (!gif.common.seed) gif.common.seed = cli::draw_seed();

  cli::detail(gif.common, "checkpoint of epoch " + std::to_string(checkpoint.epoch) + ", step " +
                              std::to_string(checkpoint.global_step));
  ImageGPT model = make_model(checkpoint);
  model->to(device);
  const auto tokens = draw(gif, model);
  sampling::write_animation(gif.output, tokens, model->quantizer()->palette(), gif.animation, cli::throw_if_stopped);
  report(gif, sampling::frame_count(side * side, gif.animation.downsample));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return igpt::cli::run_program("gif", [&] { return animate(igpt::cli::arguments_of(argc, argv)); });
}
