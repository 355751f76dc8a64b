#include <cmath>
#include <numbers>

#include "igpt/backend/devices.h"
#include "igpt/checkpoint/checkpoint.h"
#include "igpt/data/split.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/npy.h"
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
  Score result;
  backend::report_device_errors([&] {
    model->to(device);
    const auto images = dataset.to(device);
    result = timed(hooks, "evaluated " + std::to_string(images.size()) + " images",
                   [&] { return score(model, images, scoring); });
  });
  if (!std::isfinite(result.loss))
    throw Error(options.checkpoint + ": its loss is not finite; its weights are damaged, take an earlier checkpoint");
  if (!options.per_image.empty()) write_per_image(options.per_image, torch::cat(per_image));

  EvaluateResult summary{result.count, result.loss, {}, {}};
  if (classify || conditional) summary.accuracy = result.accuracy;
  if (!classify) summary.bits_per_dim = result.loss / std::numbers::ln2;
  return summary;
}

}  // namespace igpt::training
