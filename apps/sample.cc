#include <cstdio>
#include <string>
#include <vector>

#include "apps/add_sampling_options.h"
#include "apps/data_dir_option.h"
#include "igpt/cli/program.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"
#include "igpt/error.h"
#include "igpt/formats/json_text.h"

namespace {

using namespace igpt;

struct SampleCommand {
  sampling::CompletionOptions completion;
  DataDirOption data_dir;
  cli::CommonOptions common;
};

cli::Options declare(SampleCommand& sample) {
  auto& completion = sample.completion;
  cli::Options options("sample", "Completes test images. The figure has a row for each: context, samples and original.",
                       "sample models/fmnist_gen.ckpt --indices 3,17 --temperature 0.9 -o figure.png");
  options.positional("CKPT", completion.checkpoint, "checkpoint of a trained model");
  options.group("Images");
  options.add("num_examples", completion.num_examples, "test images to complete, chosen at random by the seed",
              between(1, 1000));
  options.add("num_samples", completion.num_samples, "samples of each image", between(1, 1000));
  options.add("indices", completion.indices, "these test images instead of random ones", at_least(0));
  options.add("class", completion.classes,
              "classes of an image's samples, in turn, from a model of run train --conditional", at_least(0),
              {.shown_default = "the image's own", .placeholder = "N,..."});
  options.add("context_rows", completion.context_rows, "pixel rows that are given", at_least(0),
              {.shown_default = "half of them"});
  options.add("test_x", completion.test_x, "test images", {}, {.placeholder = "FILE"});
  options.add("test_y", completion.test_y, "their labels, for a model of --conditional without --class", {},
              {.placeholder = "FILE"});
  sample.data_dir.add(options);
  add_sampling_options(options, completion.sampling, completion.precision, sample.common);
  options.group("Output");
  options.add("o,output", completion.output, "the figure, a PNG", {}, {.placeholder = "FILE"});
  options.add("scale", completion.scale, "enlarges each image, nearest neighbour", within(0.01, 100));
  options.add("tokens", completion.tokens, "also write the samples, (N, h, w), to this .npy", {},
              {.placeholder = "FILE"});
  cli::add_json_option(options, sample.common);
  cli::add_log_options(options, sample.common);
  options.group("Computation");
  cli::add_device_options(options, sample.common);
  return options;
}

void check(const cli::Options& options, const SampleCommand& sample) {
  if (options.given("indices") && sample.completion.indices.empty()) throw UsageError("--indices names no image");
  if (options.given("class") && sample.completion.classes.empty()) throw UsageError("--class names no class");
  if (options.given("indices") && options.given("num_examples"))
    throw UsageError("--num_examples and --indices exclude each other");
}

void report(const SampleCommand& sample, const sampling::CompletionResult& result) {
  const auto& [completion, data_dir, common] = sample;
  if (common.json) {
    formats::OrderedJson json;
    json["output"] = completion.output;
    json["seed"] = completion.sampling.seed;
    json["indices"] = result.indices;
    json["num_samples"] = completion.num_samples;
    json["context_rows"] = result.context_rows;
    if (!completion.tokens.empty()) json["tokens"] = completion.tokens;
    std::puts(formats::json_text(json).c_str());
  } else {
    std::string list;
    for (const int64_t index : result.indices) list += (list.empty() ? "" : ", ") + std::to_string(index);
    std::printf("%s: test images %s, %lld sample%s each, seed %lld\n", cli::single_line(completion.output).c_str(),
                list.c_str(), static_cast<long long>(completion.num_samples), completion.num_samples == 1 ? "" : "s",
                static_cast<long long>(completion.sampling.seed));
  }
}

int sample_images(const std::vector<std::string>& arguments) {
  SampleCommand sample;
  cli::Options options = declare(sample);
  if (!options.parse(arguments)) return 0;
  check(options, sample);
  sample.data_dir.apply(options);
  auto& [completion, data_dir, common] = sample;
  completion.device = common.device;
  completion.threads = common.threads;
  completion.sampling.seed = cli::seed_of(common);
  cli::Terminal terminal("pixels", common);
  const auto result = commands().complete(completion, terminal.hooks());
  terminal.finish();
  report(sample, result);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return igpt::cli::run_program(
      "sample", [&] { return sample_images(igpt::cli::arguments_of(argc, argv)); },
      "lower --num_examples or --num_samples");
}
