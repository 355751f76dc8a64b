#include <algorithm>
#include <cmath>
#include <numbers>

#include "igpt/backend/devices.h"
#include "igpt/checkpoint/checkpoint.h"
#include "igpt/counted.h"
#include "igpt/data/split.h"
#include "igpt/drawing/likelihoods.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/npy.h"
#include "igpt/sampling/figure.h"
#include "igpt/timing.h"
#include "igpt/training/evaluate.h"
#include "igpt/training/scoring.h"
#include "igpt/training/train_options.h"

namespace igpt::training {
namespace {

TokenDataset read_test_set(const EvaluateOptions& options, const Checkpoint& checkpoint, bool with_labels,
                           const Hooks& hooks) {
  auto split = data::read_split(
      options.test_x, with_labels ? options.test_y : "",
      expected_images(checkpoint, options.checkpoint, "give it images of that size with --data_dir or --test_x"),
      [&] { throw_if_stopped(hooks); }, hooks.note);
  for (const auto& note : {note_on_dataset(checkpoint, options.checkpoint, split, options.test_x),
                           note_on_palette(checkpoint, options.checkpoint, split, options.test_x)})
    if (hooks.note && !note.empty()) hooks.note(note);
  for (const int64_t label : split.labels)
    if (with_labels && label >= checkpoint.model.num_classes)
      throw InputError(options.test_y + ": holds the label " + std::to_string(label) + ", the model has " +
                       std::to_string(checkpoint.model.num_classes) + " classes; it was trained for another data set");
  auto dataset = make_token_dataset(split);
  if (!options.limit || *options.limit >= dataset.size()) return dataset;
  return {dataset.tokens.narrow(0, 0, *options.limit), dataset.labels.narrow(0, 0, *options.limit)};
}

void write_per_image(const std::string& path, const torch::Tensor& values) {
  const auto numbers = values.to(torch::kCPU, torch::kFloat64).contiguous();
  formats::write_npy(path, numbers.sizes().vec(),
                     std::span<const double>(numbers.const_data_ptr<double>(), static_cast<size_t>(numbers.numel())));
}

// What a figure shows, gathered batch by batch.
class LikelihoodsOf {
 public:
  void add(const torch::Tensor& nats) {  // (B, S)
    const auto wide = nats.to(torch::kCPU, torch::kFloat64);
    by_image_.push_back(wide.sum(1));
    by_pixel_ = by_pixel_.defined() ? by_pixel_ + wide.sum(0) : wide.sum(0);
  }

  void write(const std::string& path, const TokenDataset& dataset, const torch::Tensor& palette) const {
    constexpr int64_t kMostShown = 10;                            // of each kind
    const auto nats = torch::cat(by_image_);                      // (N)
    const auto order = nats.argsort(/*stable=*/true, -1, false);  // the likeliest first
    const int64_t count = nats.size(0), side = std::llround(std::sqrt(dataset.tokens.size(1)));
    const auto ranked = [&](int64_t place) {
      const auto index = order[place].item<int64_t>();
      const auto image = sampling::pixels_of(dataset.tokens[index].view({side, side}), palette);  // (h, w, C)
      return drawing::Likelihoods::Ranked{index, nats[index].item<double>(), sampling::to_image(image)};
    };
    drawing::Likelihoods likelihoods{.side = side};
    for (int64_t i = 0; i < std::min(kMostShown, (count + 1) / 2); ++i) likelihoods.likeliest.push_back(ranked(i));
    for (int64_t i = 0; i < std::min(kMostShown, count / 2); ++i)
      likelihoods.least_likely.push_back(ranked(count - 1 - i));
    likelihoods.nats_per_image = values_of_tensor(nats);
    likelihoods.nats_by_pixel = values_of_tensor(by_pixel_ / static_cast<double>(count));
    formats::write_atomically(path, drawing::draw_likelihoods(likelihoods, drawing::format_of(path, "--figure")));
  }

 private:
  static std::vector<double> values_of_tensor(const torch::Tensor& numbers) {
    const auto dense = numbers.contiguous();
    return {dense.const_data_ptr<double>(), dense.const_data_ptr<double>() + dense.numel()};
  }

  std::vector<torch::Tensor> by_image_;  // (B) each
  torch::Tensor by_pixel_;               // (S): sums over the images
};

// Before any work is done.
void check_figure(const EvaluateOptions& options, const Checkpoint& checkpoint, bool classify) {
  if (options.figure.empty()) return;
  drawing::format_of(options.figure, "--figure");
  if (classify)
    throw UsageError("--figure shows how likely a generative model finds the images, and " + options.checkpoint +
                     (checkpoint.classify ? " is a classifier; take the checkpoint that it was trained from"
                                          : " is tested as a classifier; leave --classify out"));
  require_palette(checkpoint, options.checkpoint);
  formats::expect_writable(options.figure, {options.checkpoint, options.test_x, options.test_y, options.per_image});
}

}  // namespace

EvaluateResult evaluate(const EvaluateOptions& options, const Hooks& hooks) {
  const auto checkpoint = read_checkpoint(options.checkpoint);
  const bool classify = options.classify.value_or(checkpoint.classify);
  const bool conditional = checkpoint.model.conditional;
  if (!classify) require_head(checkpoint, options.checkpoint);
  if (classify && conditional)
    throw UsageError(
        "--classify: " + options.checkpoint +
        " has a start token for each class and no classifier; without the option, test_acc tells how often "
        "the right class gives an image the highest likelihood");
  check_figure(options, checkpoint, classify);
  const auto dataset = read_test_set(options, checkpoint, classify || conditional, hooks);
  if (!options.per_image.empty())
    formats::expect_writable(options.per_image, {options.checkpoint, options.test_x, options.test_y});
  const auto device = backend::prepare_device(options.device, options.threads, hooks);
  auto model = make_model(checkpoint);

  ScoringOptions scoring;
  scoring.classify = classify;
  scoring.likeliest_class = conditional;
  scoring.batch_size = options.batch_size;
  scoring.bf16 = options.precision == "bf16";
  scoring.progress = [&](int64_t done) {
    throw_if_stopped(hooks);
    if (hooks.progress) hooks.progress(dataset.size(), done, "");
  };
  scoring.note = hooks.note;
  std::vector<torch::Tensor> per_image;
  if (!options.per_image.empty())
    scoring.per_image = [&](const torch::Tensor& batch) { per_image.push_back(batch.cpu()); };
  LikelihoodsOf likelihoods;
  if (!options.figure.empty()) scoring.per_pixel = [&](const torch::Tensor& batch) { likelihoods.add(batch); };
  Score result;
  backend::report_device_errors([&] {
    model->to(device);
    const auto images = dataset.to(device);
    result =
        timed(hooks, "evaluated " + counted(images.size(), "image"), [&] { return score(model, images, scoring); });
  });
  if (!std::isfinite(result.loss))
    throw Error(options.checkpoint + ": its loss is not finite; its weights are damaged, take an earlier checkpoint");
  if (!options.per_image.empty()) write_per_image(options.per_image, torch::cat(per_image));
  if (!options.figure.empty()) likelihoods.write(options.figure, dataset, model->palette());

  EvaluateResult summary{result.count, result.loss, {}, {}};
  if (classify || conditional) summary.accuracy = result.accuracy;
  if (!classify) summary.bits_per_dim = result.loss / std::numbers::ln2;
  return summary;
}

}  // namespace igpt::training
