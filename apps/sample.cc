#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/cli/json.h"
#include "igpt/cli/program.h"
#include "igpt/cli/progress.h"
#include "igpt/cli/signals.h"
#include "igpt/data/split.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/npy.h"
#include "igpt/formats/png.h"
#include "igpt/ops/device.h"
#include "igpt/sampling/figure.h"
#include "igpt/sampling/generate.h"
#include "igpt/training/token_dataset.h"

namespace {

using namespace igpt;

struct SampleOptions {
  std::string checkpoint;
  std::string test_x = "data/test_x.npy";
  int64_t num_examples = 5, num_samples = 5;
  std::vector<int64_t> indices;
  std::optional<int64_t> context_rows;
  sampling::SamplingOptions sampling;
  std::string output = "figure.png", tokens;
  double scale = 1;
  cli::CommonOptions common;
};

cli::Options declare(SampleOptions& sample) {
  cli::Options options("sample", "Completes test images: a figure with a row for each, context, samples and original.",
                       "sample models/fmnist_gen.ckpt --indices 3,17 --temperature 0.9 -o figure.png");
  options.positional("CKPT", sample.checkpoint, "the checkpoint of a trained model");
  options.group("Images");
  options.add("num_examples", sample.num_examples, "test images to complete, random by seed", cli::between(1, 1000));
  options.add("num_samples", sample.num_samples, "samples of each", cli::between(1, 1000));
  options.add("indices", sample.indices, "these test images instead of random ones", cli::at_least(0));
  options.add("context_rows", sample.context_rows, "pixel rows that are given (half of them)", cli::at_least(0));
  options.add("test_x", sample.test_x, "the test images");
  options.group("Sampling");
  options.add("temperature", sample.sampling.temperature, "logits are divided by it", cli::greater_than(0));
  options.add("top_k", sample.sampling.top_k, "only the k likeliest tokens; 0 all, 1 greedy", cli::at_least(0));
  options.add("top_p", sample.sampling.top_p, "only the likeliest tokens that make up this probability",
              {"greater than 0, at most 1", [](double p) { return p > 0 && p <= 1; }});
  cli::add_seed_option(options, sample.common);
  options.group("Output");
  options.add("o,output", sample.output, "the figure, a PNG");
  options.add("scale", sample.scale, "enlarges each image, nearest neighbour", cli::within(0.01, 100));
  options.add("tokens", sample.tokens, "also write the samples, (N, h, w), to this .npy");
  cli::add_json_option(options, sample.common);
  cli::add_log_options(options, sample.common);
  options.group("Computation");
  cli::add_device_options(options, sample.common);
  return options;
}

void check(const cli::Options& options, const SampleOptions& sample) {
  if (options.given("indices") && sample.indices.empty()) throw UsageError("--indices names no image");
  if (options.given("indices") && options.given("num_examples"))
    throw UsageError("--num_examples and --indices exclude each other");
}

// What cannot be written is better known before the work than after.
void check_writable(const SampleOptions& sample) {
  formats::AtomicFile figure(sample.output);
  if (!sample.tokens.empty()) formats::AtomicFile tokens(sample.tokens);
}

int64_t context_rows(const SampleOptions& sample, int64_t side) {
  const int64_t rows = sample.context_rows.value_or(side / 2);
  if (rows > side)
    throw UsageError("--context_rows " + std::to_string(rows) + ": must be at most " + std::to_string(side) +
                     ", the rows of the model's images");
  return rows;
}

void check_picture(const SampleOptions& sample, int64_t examples, int64_t side) {
  constexpr double most = 1 << 28;
  const auto scaled = static_cast<double>(sampling::scaled_side(side, sample.scale));
  if (static_cast<double>(examples) * scaled * static_cast<double>(sample.num_samples + 2) * scaled > most)
    throw UsageError("--scale " + std::to_string(sample.scale) + ": the figure would be too large");
}

std::vector<int64_t> chosen_images(const SampleOptions& sample, int64_t count) {
  if (sample.indices.empty()) {
    if (sample.num_examples > count)
      throw UsageError("--num_examples " + std::to_string(sample.num_examples) + ": " + sample.test_x + " has only " +
                       std::to_string(count) + " images");
    auto indices = training::shuffled_indices(count, *sample.common.seed, /*stream=*/0);
    indices.resize(static_cast<size_t>(sample.num_examples));
    return indices;
  }
  for (const int64_t index : sample.indices)
    if (index >= count)
      throw UsageError("--indices " + std::to_string(index) + ": must be at most " + std::to_string(count - 1) + "; " +
                       sample.test_x + " has " + std::to_string(count) + " images");
  return sample.indices;
}

data::Split read_images(const SampleOptions& sample, const ImageGPTOptions& model) {
  const auto max_token = static_cast<uint8_t>(std::min<int64_t>(model.num_vocab - 1, 255));
  auto split = data::read_split(sample.test_x, /*y=*/"", max_token, cli::throw_if_stopped);
  if (split.num_pixels != model.num_pixels) {
    const auto size = [](int64_t side) { return std::to_string(side) + " x " + std::to_string(side); };
    throw InputError(sample.test_x + ": has images of " + size(split.num_pixels) + " pixels, the model draws " +
                     size(model.num_pixels) + "; give --test_x images of the model's size");
  }
  return split;
}

// Sample k of test image i has a stream of its own, whatever else is drawn.
std::vector<uint64_t> streams_of(const std::vector<int64_t>& indices, int64_t num_samples) {
  std::vector<uint64_t> streams;
  for (const int64_t index : indices)
    for (int64_t k = 0; k < num_samples; ++k)
      streams.push_back(static_cast<uint64_t>(index) << 32 | static_cast<uint64_t>(k));
  return streams;
}

torch::Tensor draw(const SampleOptions& sample, const ImageGPT& model, const torch::Tensor& originals,
                   const std::vector<int64_t>& indices, int64_t rows) {
  const int64_t side = model->options().num_pixels, examples = originals.size(0),
                images = examples * sample.num_samples;
  const auto context = originals.narrow(1, 0, rows).flatten(1).repeat_interleave(sample.num_samples, /*dim=*/0);
  cli::Progress progress(images * (side - rows) * side, "pixels", sample.common.quiet);
  int64_t done = 0;
  const auto drawn = [&](const sampling::Drawn& progressed) {
    cli::throw_if_stopped();
    progress.update(done += progressed.pixels());
  };
  auto options = sample.sampling;
  options.seed = *sample.common.seed;
  return sampling::generate(model, context, streams_of(indices, sample.num_samples), options, drawn)
      .view({examples, sample.num_samples, side, side});
}

void write(const SampleOptions& sample, const ImageGPT& model, const torch::Tensor& originals,
           const torch::Tensor& samples, int64_t rows) {
  formats::write_png(sample.output,
                     sampling::completion_figure(model->quantizer(), originals, samples, rows, sample.scale));
  if (sample.tokens.empty()) return;
  const auto tokens = samples.flatten(0, 1);  // (N, h, w) int64
  const auto shape = tokens.sizes().vec();
  const auto count = static_cast<size_t>(tokens.numel());
  if (model->options().num_vocab > 256) {
    formats::write_npy(sample.tokens, shape, std::span<const int64_t>(tokens.data_ptr<int64_t>(), count));
  } else {
    const auto bytes = tokens.to(torch::kUInt8);
    formats::write_npy(sample.tokens, shape, std::span<const uint8_t>(bytes.data_ptr<uint8_t>(), count));
  }
}

void report(const SampleOptions& sample, const std::vector<int64_t>& indices, int64_t rows) {
  std::string list;
  for (const int64_t index : indices) list += (list.empty() ? "" : ", ") + std::to_string(index);
  if (sample.common.json) {
    cli::JsonObject result;
    result.add("output", sample.output).add("seed", *sample.common.seed).add("indices", indices);
    result.add("num_samples", sample.num_samples).add("context_rows", rows);
    if (!sample.tokens.empty()) result.add("tokens", sample.tokens);
    std::puts(result.text().c_str());
  } else {
    std::printf("%s: test images %s, %lld samples each, seed %lld\n", cli::printable(sample.output).c_str(),
                list.c_str(), static_cast<long long>(sample.num_samples), static_cast<long long>(*sample.common.seed));
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

int sample_images(const std::vector<std::string>& arguments) {
  SampleOptions sample;
  cli::Options options = declare(sample);
  if (!options.parse(arguments)) return 0;
  check(options, sample);
  const auto device = prepare_device(sample.common);
  const Checkpoint checkpoint = read_checkpoint(sample.checkpoint);
  const int64_t side = checkpoint.model.num_pixels, rows = context_rows(sample, side);
  const data::Split split = read_images(sample, checkpoint.model);
  if (!sample.common.seed) sample.common.seed = cli::draw_seed();
  const std::vector<int64_t> indices = chosen_images(sample, split.count);
  check_picture(sample, static_cast<int64_t>(indices.size()), side);
  check_writable(sample);

  cli::detail(sample.common, "checkpoint of epoch " + std::to_string(checkpoint.epoch) + ", step " +
                                 std::to_string(checkpoint.global_step));
  ImageGPT model = make_model(checkpoint);
  model->to(device);
  const auto originals =
      torch::tensor(split.tokens, torch::kUInt8).view({-1, side, side}).index_select(0, torch::tensor(indices));
  const auto samples = draw(sample, model, originals, indices, rows);
  write(sample, model, originals, samples, rows);
  report(sample, indices, rows);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return igpt::cli::run_program("sample", [&] { return sample_images(igpt::cli::arguments_of(argc, argv)); });
}
