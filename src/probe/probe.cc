#include "igpt/probe/probe.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "igpt/backend/backend.h"
#include "igpt/backend/devices.h"
#include "igpt/checkpoint/checkpoint.h"
#include "igpt/data/split.h"
#include "igpt/error.h"
#include "igpt/fields.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/training/token_dataset.h"
#include "src/probe/logistic_regression.h"

namespace igpt::probe {
namespace {

using torch::Tensor;
using training::TokenDataset;

// From hardly any to so much that only the classes' shares are left.
constexpr double kPenalties[] = {1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6};

TokenDataset read_images(const std::string& images, const std::string& labels, const ProbeOptions& options,
                         const Checkpoint& checkpoint, const Hooks& hooks) {
  auto split = data::read_split(
      images, labels, expected_images(checkpoint, options.checkpoint, "give it images of that size"),
      [&] { throw_if_stopped(hooks); }, hooks.note);
  for (const auto& note : {note_on_dataset(checkpoint, options.checkpoint, split, images),
                           note_on_palette(checkpoint, options.checkpoint, split, images)})
    if (hooks.note && !note.empty()) hooks.note(note);
  return training::make_token_dataset(split);
}

// (N, L + 1, D) float32 on the CPU, or (N, 1, D) of one layer
Tensor features_of(backend::Backend& backend, const TokenDataset& images, const ProbeOptions& options,
                   const c10::Device& device, int64_t total, int64_t& done, const Hooks& hooks) {
  std::vector<Tensor> parts;
  for (int64_t first = 0; first < images.size(); first += options.batch_size) {
    throw_if_stopped(hooks);
    const int64_t count = std::min(options.batch_size, images.size() - first);
    auto features = backend.layer_features(images.tokens.narrow(0, first, count).to(device));
    if (options.layer) features = features.narrow(1, *options.layer, 1);
    parts.push_back(features.cpu().contiguous());
    done += count;
    if (hooks.progress) hooks.progress(total, done, "");
  }
  return torch::cat(parts);
}

double accuracy(const Tensor& logits, const Tensor& labels) {
  return (logits.argmax(-1) == labels).to(torch::kFloat64).mean().item<double>();
}

// Of one layer: x (N, D), y (N).
ProbeRow probe(const Tensor& x, const Tensor& y, const Tensor& test_x, const Tensor& test_y, int64_t classes,
               int64_t seed, const Hooks& hooks) {
  const Standardisation standardisation(x);
  const Tensor standard = standardisation.apply(x), test = standardisation.apply(test_x);
  const auto order = torch::randperm(y.size(0), at::detail::createCPUGenerator(static_cast<uint64_t>(seed)));
  const int64_t choosing = std::max<int64_t>(1, y.size(0) / 10);
  const auto fit = order.narrow(0, choosing, y.size(0) - choosing), choose = order.narrow(0, 0, choosing);
  const Tensor fit_x = standard.index_select(0, fit), fit_y = y.index_select(0, fit);
  const Tensor choose_x = standard.index_select(0, choose), choose_y = y.index_select(0, choose);
  ProbeRow row{.val_accuracy = -1};
  LogisticRegression regression(fit_x, fit_y, classes);
  for (const double penalty : kPenalties) {  // from the largest on, each from where the last one ended
    throw_if_stopped(hooks);
    regression.fit(penalty);
    const double found = accuracy(regression.logits(choose_x), choose_y);
    if (found <= row.val_accuracy) continue;
    row.val_accuracy = found;
    row.penalty = penalty;
  }
  LogisticRegression of_all(standard, y, classes);
  of_all.fit(row.penalty);
  const auto logits = of_all.logits(test);
  row.test_accuracy = accuracy(logits, test_y);
  row.test_loss = torch::nn::functional::cross_entropy(logits, test_y).item<double>();
  return row;
}

void write_csv(const std::string& path, const ProbeResult& result) {
  std::string text = "layer,test_acc,test_loss,val_acc,penalty\n";
  for (const auto& row : result.rows)
    text += to_text(row.layer) + "," + to_text(row.test_accuracy) + "," + to_text(row.test_loss) + "," +
            to_text(row.val_accuracy) + "," + to_text(row.penalty) + "\n";
  formats::write_atomically(path, text);
}

}  // namespace

ProbeResult run_probes(const ProbeOptions& options, const std::function<void(const ProbeRow&)>& print,
                       const Hooks& hooks) {
  const auto checkpoint = read_checkpoint(options.checkpoint);
  if (checkpoint.model.conditional)
    throw UsageError(options.checkpoint +
                     ": has a start token for each class, which would tell its features the class; probe a model that "
                     "was trained without --conditional");
  const int64_t layers = checkpoint.model.num_layers;
  if (options.layer && *options.layer > layers)
    throw UsageError("--layer " + std::to_string(*options.layer) + ": " + options.checkpoint + " has the layers 0 to " +
                     std::to_string(layers));
  if (!options.csv.empty())
    formats::expect_writable(options.csv, {options.checkpoint, options.data.train_x, options.data.train_y,
                                           options.data.test_x, options.data.test_y});
  auto train = read_images(options.data.train_x, options.data.train_y, options, checkpoint, hooks);
  const auto test = read_images(options.data.test_x, options.data.test_y, options, checkpoint, hooks);
  if (options.limit && *options.limit < train.size())
    train = {train.tokens.narrow(0, 0, *options.limit), train.labels.narrow(0, 0, *options.limit)};
  if (train.size() < 2)
    throw InputError(options.data.train_x + ": holds " + std::to_string(train.size()) +
                     " image; a probe needs at least 2, one of them to choose the penalty");
  const int64_t largest = torch::cat({train.labels, test.labels}).max().item<int64_t>();
  if (largest >= kMostClasses)
    throw InputError(options.data.train_y + " and " + options.data.test_y + ": their labels go up to " +
                     std::to_string(largest) + "; labels are the numbers of classes, 0, 1, ...");
  const int64_t classes = largest + 1;

  const auto device = backend::prepare_device(options.device, options.threads, hooks);
  auto model = make_model(checkpoint);
  Tensor train_x, test_x;  // (N, layers, D)
  backend::report_device_errors([&] {
    model->to(device);
    const auto backend = backend::make_backend(model, {.images = options.batch_size, .note = hooks.note});
    int64_t done = 0;
    const int64_t total = train.size() + test.size();
    train_x = features_of(*backend, train, options, device, total, done, hooks);
    test_x = features_of(*backend, test, options, device, total, done, hooks);
  });

  ProbeResult result{train.size(), test.size(), checkpoint.model.embed_dim, {}};
  for (int64_t i = 0; i < train_x.size(1); ++i) {
    auto row = probe(train_x.select(1, i).contiguous(), train.labels, test_x.select(1, i).contiguous(), test.labels,
                     classes, options.seed, hooks);
    row.layer = options.layer.value_or(i);
    print(row);
    result.rows.push_back(row);
  }
  if (!options.csv.empty()) write_csv(options.csv, result);
  return result;
}

}  // namespace igpt::probe
