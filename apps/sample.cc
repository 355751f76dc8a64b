#include <array>
#include <cstdio>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "apps/add_sampling_options.h"
#include "apps/data_dir_option.h"
#include "igpt/cli/blocks.h"
#include "igpt/cli/program.h"
#include "igpt/cli/terminal.h"
#include "igpt/commands/commands.h"
#include "igpt/counted.h"
#include "igpt/error.h"
#include "igpt/formats/json_text.h"

namespace {

using namespace igpt;

struct SampleCommand {
  sampling::CompletionOptions completion;
  std::vector<std::string> images;  // as given
  DataDirOption data_dir;
  cli::CommonOptions common;
};

cli::Options declare(SampleCommand& sample) {
  auto& completion = sample.completion;
  cli::Options options("sample", "Completes images. The figure has a row for each: context, samples and original.",
                       "sample models/fmnist_gen.ckpt --indices 3,17 --temperature 0.9 -o figure.png");
  options.positional("CKPT", completion.checkpoint, "checkpoint of a trained model");
  options.group("Images");
  options.add("num_examples", completion.num_examples,
              "test images to complete, chosen at random by the seed; with --unconditional rows of images",
              between(1, 1000));
  options.add("num_samples", completion.num_samples, "samples of each image", between(1, 1000));
  options.add("indices", completion.indices, "these test images instead of random ones", at_least(0));
  options.add("image", sample.images,
              "your own pictures instead, PNG or JPEG: several with commas, or the option again for each", {},
              {.placeholder = "FILE[,FILE...]"});
  options.add("unconditional", completion.unconditional, "draw whole images from nothing, as gif does");
  options.add(
      "class", completion.classes,
      "from a model of run train --conditional: classes of an image's samples, in turn; from nothing, of the rows",
      at_least(0), {.shown_default = "the image's own", .placeholder = "N,..."});
  options.add("context_rows", completion.context_rows, "pixel rows that are given", at_least(0),
              {.shown_default = "half of them"});
  options.add("test_x", completion.test_x, "test images", {}, {.placeholder = "FILE"});
  options.add("test_y", completion.test_y, "their labels, for a model of --conditional without --class", {},
              {.placeholder = "FILE"});
  sample.data_dir.add(options);
  add_sampling_options(options, completion.sampling, completion.precision, sample.common);
  options.group("Output");
  options.add("o,output", completion.output, "the figure", cli::file_ending_in({".png"}), {.placeholder = "FILE"});
  options.add("scale", completion.scale, "enlarges each image, nearest neighbour", within(0.01, 100));
  options.add("tokens", completion.tokens, "also write the samples, (N, h, w), to this file",
              cli::file_ending_in({".npy"}), {.placeholder = "FILE"});
  cli::add_json_option(options, sample.common);
  cli::add_log_options(options, sample.common,
                       "more details of the work, and the drawing in the terminal: in blocks where its colours and the "
                       "locale allow it, otherwise in ASCII");
  options.group("Computation");
  cli::add_device_options(options, sample.common);
  return options;
}

void check(const cli::Options& options, const SampleCommand& sample) {
  if (options.given("indices") && sample.completion.indices.empty()) throw UsageError("--indices names no image");
  if (options.given("class") && sample.completion.classes.empty()) throw UsageError("--class names no class");
  constexpr std::array<std::array<const char*, 2>, 12> kExclusive{{{"num_examples", "indices"},
                                                                   {"image", "indices"},
                                                                   {"image", "num_examples"},
                                                                   {"image", "test_x"},
                                                                   {"image", "test_y"},
                                                                   {"image", "data_dir"},
                                                                   {"unconditional", "image"},
                                                                   {"unconditional", "indices"},
                                                                   {"unconditional", "context_rows"},
                                                                   {"unconditional", "test_x"},
                                                                   {"unconditional", "test_y"},
                                                                   {"unconditional", "data_dir"}}};
  for (const auto& [one, other] : kExclusive)
    if (options.given(one) && options.given(other))
      throw UsageError("--" + std::string(one) + " and --" + other + " exclude each other");
}

// The files that --image names. A comma may belong to a name: that of a file counts as it is.
std::vector<std::string> files_of(const std::vector<std::string>& texts) {
  std::vector<std::string> files;
  for (const std::string& text : texts) {
    std::error_code ignored;
    std::istringstream parts(text);
    if (std::filesystem::exists(text, ignored)) {
      files.push_back(text);
      continue;
    }
    if (text.empty()) throw UsageError("--image names no file");
    if (text.back() == ',') throw UsageError("--image " + text + ": ends with a comma; a file has to follow");
    for (std::string part; std::getline(parts, part, ',');) {
      if (part.empty()) throw UsageError("--image " + text + ": names no file between two commas");
      files.push_back(part);
    }
  }
  return files;
}

// In the terminal, where there is one.
void show(const SampleCommand& sample, const sampling::CompletionResult& result) {
  const auto terminal = cli::standard_error();
  if (!sample.common.verbose || sample.common.quiet || !terminal.terminal) return;
  const auto picture =
      cli::fitted(result.figure, result.side, terminal.columns(), /*completions=*/!sample.completion.unconditional);
  terminal.write(cli::in_blocks(picture, cli::shades_of(terminal)));
  const int64_t all = result.figure.width / result.side, rows = result.figure.height / result.side,
                shown = picture.width * rows / picture.height;
  if (shown < all)
    cli::note(sample.common, std::to_string(shown) + " of the " + std::to_string(all) +
                                 " images of a row are shown; a wider terminal shows more");
}

// What was completed, in words.
std::string subject_of(const sampling::CompletionOptions& completion, const sampling::CompletionResult& result) {
  std::string list;
  const auto add = [&](const std::string& item) { list += (list.empty() ? "" : ", ") + item; };
  for (const std::string& image : completion.images) add(cli::single_line(image));
  for (const int64_t index : result.indices) add(std::to_string(index));
  return !completion.images.empty() ? list : (result.indices.size() == 1 ? "test image " : "test images ") + list;
}

void report(const SampleCommand& sample, const sampling::CompletionResult& result) {
  const auto& [completion, images, data_dir, common] = sample;
  if (common.json) {
    formats::OrderedJson json;
    json["output"] = completion.output;
    json["seed"] = completion.sampling.seed;
    if (completion.unconditional)
      json["num_examples"] = completion.num_examples;
    else if (completion.images.empty())
      json["indices"] = result.indices;
    else
      json["images"] = completion.images;
    json["num_samples"] = completion.num_samples;
    if (!result.classes.empty()) json["classes"] = result.classes;
    json["context_rows"] = result.context_rows;
    if (!completion.tokens.empty()) json["tokens"] = completion.tokens;
    std::puts(formats::json_text(json).c_str());
  } else if (completion.unconditional) {
    std::printf("%s: %lld x %lld images%s, seed %lld\n", cli::single_line(completion.output).c_str(),
                static_cast<long long>(completion.num_examples), static_cast<long long>(completion.num_samples),
                of_classes(result.classes).c_str(), static_cast<long long>(completion.sampling.seed));
  } else {
    std::printf("%s: %s, %s each%s, seed %lld\n", cli::single_line(completion.output).c_str(),
                subject_of(completion, result).c_str(), counted(completion.num_samples, "sample").c_str(),
                of_classes(result.classes).c_str(), static_cast<long long>(completion.sampling.seed));
  }
}

int sample_images(const std::vector<std::string>& arguments) {
  SampleCommand sample;
  cli::Options options = declare(sample);
  if (!options.parse(arguments)) return 0;
  check(options, sample);
  sample.data_dir.apply(options);
  auto& [completion, images, data_dir, common] = sample;
  completion.images = files_of(images);
  const auto named = static_cast<int64_t>(completion.classes.size());
  if (named > 0 && completion.unconditional && !options.given("num_examples")) completion.num_examples = named;
  if (named > completion.num_samples && !completion.unconditional && !options.given("num_samples"))
    completion.num_samples = named;
  completion.device = common.device;
  completion.threads = common.threads;
  completion.sampling.seed = cli::seed_of(common);
  cli::Terminal terminal("pixels", common);
  const auto result = commands().complete(completion, terminal.hooks());
  terminal.finish();
  show(sample, result);
  report(sample, result);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return igpt::cli::run_program(
      "sample", [&] { return sample_images(igpt::cli::arguments_of(argc, argv)); },
      "lower --num_examples or --num_samples");
}
