#include "src/training/start.h"

#include <algorithm>
#include <filesystem>

#include "igpt/data/dataset_folder.h"
#include "igpt/data/datasets.h"
#include "igpt/error.h"
#include "igpt/runs/run_list.h"
#include "igpt/training/run_folder.h"
#include "src/training/notes.h"

namespace igpt::training {
namespace {

// The model of a checkpoint counts. Options that the user gave must not contradict it, except that another number of
// classes gets a new head, and that a model can get a start token for each class.
void adopt_model(TrainOptions& options, const Checkpoint& checkpoint) {
  ImageGPTOptions model = checkpoint.model;
  const auto wanted = values_of(options.model), own = values_of(model);
  for (size_t i = 0; i < own.size(); ++i) {
    const auto& [name, value] = wanted[i];
    const bool given = std::ranges::find(options.given, name) != options.given.end();
    if (!given || value == own[i].second) continue;
    const bool is_new_head = name == "num_classes" && !model.conditional;
    if (!is_new_head && name != "conditional")
      throw UsageError("--" + name + " " + to_text(value) + ": " + options.pretrained +
                       (name == "arch" ? " is of " : " has ") + to_text(own[i].second) + "; leave the option out");
    if (is_new_head) model.num_classes = options.model.num_classes;
  }
  model.conditional = model.conditional || options.model.conditional;
  if (options.classify && model.conditional && !options.model.conditional)
    throw UsageError("--classify: " + options.pretrained +
                     " has a start token for each class, which a classifier must not be told; take a model that was "
                     "trained without --conditional");
  model.shifted_classifier = true;  // both losses are of one pass
  options.model = model;
}

// Called before the images are read, which would only report a token that is out of range.
void check_num_vocab(const TrainOptions& options) {
  const auto folder = std::filesystem::path(options.data.train_x).parent_path();
  const auto info = data::read_dataset_info(folder.empty() ? "." : folder);
  if (!info || info->palette.size() == options.model.num_vocab) return;
  throw UsageError("--num_vocab " + std::to_string(options.model.num_vocab) + ": the images of " +
                   (folder / "dataset.yaml").string() + " have a palette of " + std::to_string(info->palette.size()) +
                   " colours; use --num_vocab " + std::to_string(info->palette.size()));
}

void adopt_palette(ImageGPTOptions& model, const data::Split& split) {
  if (!split.info) return;
  model.channels = split.info->palette.channels;
  model.palette = split.info->palette.colours;
  model.centroids = split.info->palette.centroids;
}

bool needs_labels(const TrainOptions& options) {
  return options.classify || options.model.conditional;
}

// An earlier checkpoint of a run (best.ckpt, step_N.ckpt) would take the run back to its step.
void expect_newest(const std::string& path, int64_t step) {
  const auto last = RunFolder::of_another_process(RunFolder::path_of(path)).last_checkpoint();
  std::error_code ignored;
  if (!std::filesystem::exists(last, ignored) || std::filesystem::equivalent(last, path, ignored)) return;
  int64_t last_step = 0;
  try {
    last_step = read_checkpoint(last).global_step;
  } catch (const InputError&) {  // damaged: going back is then what helps
    return;
  }
  if (last_step > step)
    throw InputError(path + ": is of step " + std::to_string(step) + ", and its run has gone on to step " +
                     std::to_string(last_step) + ", which going on from here would undo; resume " + last.string() +
                     ", move that away first, or start a new run from the weights with --pretrained");
}

Checkpoint read_resumable(const std::string& path) {
  auto checkpoint = read_checkpoint(path);
  if (!checkpoint.progress)
    throw InputError(path + ": holds no training state; start a new run from its weights with --pretrained");
  return checkpoint;
}

}  // namespace

std::optional<Checkpoint> starting_checkpoint(TrainOptions& options) {
  if (!options.resume.empty()) {
    auto checkpoint = read_resumable(options.resume);
    options.model = checkpoint.model;
    if (checkpoint.optimizer->momentum_buffer.empty() == (options.optimizer == "muon"))
      throw InputError(options.resume + ": was not trained with --optimizer " + options.optimizer +
                       "; a resumed run keeps its optimizer");
    if (!images_read(options, checkpoint.global_step))
      throw InputError(options.resume + ": its global_step is " + std::to_string(checkpoint.global_step) +
                       ", more than any run reaches; the file is damaged");
    expect_newest(options.resume, checkpoint.global_step);
    return checkpoint;
  }
  if (options.pretrained.empty()) return {};
  auto checkpoint = read_checkpoint(options.pretrained);
  require_palette(checkpoint, options.pretrained);
  adopt_model(options, checkpoint);
  return checkpoint;
}

bool has_nothing_left(const TrainOptions& options, int64_t step, const TrainingProgress& progress) {
  return !options.resume.empty() && step >= options.steps && progress.validated_step == step;
}

std::optional<TrainResult> finished_run(const TrainOptions& options, const Hooks& hooks) {
  if (std::filesystem::path(options.resume).filename() != "last.ckpt") return {};
  const auto checkpoint = read_resumable(options.resume);
  const TrainingProgress& progress = *checkpoint.progress;
  const int64_t step = checkpoint.global_step;
  if (!has_nothing_left(options, step, progress)) return {};
  const auto run = RunFolder::of_another_process(RunFolder::path_of(options.resume));
  const auto state = runs::describe_run(run.path()).state;
  if (state == runs::State::training) return {};  // by another program, which the trainer will say
  if (options.launch.rank == 0) {
    note_nothing_left(options, step, hooks);
    try {
      if (state == runs::State::failed && step >= progress.total_steps)  // killed before it could say otherwise
        runs::write_state(run.path(), {runs::State::finished, step, ""});
    } catch (const Error&) {  // of no consequence
    }
  }
  return TrainResult{.best_checkpoint = run.best_checkpoint().string(),
                     .last_checkpoint = run.last_checkpoint().string(),
                     .best_step = progress.best_step,
                     .best_score = progress.best_score,
                     .last_step = step,
                     .bad_validations = progress.bad_validations};
}

data::Split read_training_split(TrainOptions& options, const std::optional<Checkpoint>& start, const Hooks& hooks) {
  if (!start) check_num_vocab(options);
  check(options);
  const std::string& path = options.resume.empty() ? options.pretrained : options.resume;
  const data::ExpectedSplit of_new_model{.num_vocab = options.model.num_vocab,
                                         .num_pixels = options.model.num_pixels,
                                         .other_size_cure = "name their size with --num_pixels"};
  const auto expected = start ? expected_images(*start, path, "give it images of that size") : of_new_model;
  auto split = data::read_split(
      options.data.train_x, needs_labels(options) ? options.data.train_y : "", expected,
      [&] { throw_if_stopped(hooks); }, hooks.note);
  if (!start) adopt_palette(options.model, split);
  if (split.count < 2)
    throw InputError(options.data.train_x + ": holds " + std::to_string(split.count) +
                     " image; training needs at least 2, one of them for validation");
  if (!needs_labels(options)) return split;
  const int64_t largest = *std::max_element(split.labels.begin(), split.labels.end());
  if (largest >= options.model.num_classes)
    throw InputError(options.data.train_y + ": its labels go up to " + std::to_string(largest) + ", the model has " +
                     std::to_string(options.model.num_classes) + " classes; " +
                     (largest < kMostClasses ? "use --num_classes " + std::to_string(largest + 1)
                                             : "labels are the numbers of classes, 0, 1, ..."));
  return split;
}

void check_images(const TrainOptions& options, const Checkpoint& start, const data::Split& split,
                  const std::string& train_sha256, const Hooks& hooks) {
  const std::string& train_x = options.data.train_x;
  if (options.resume.empty()) {
    const auto of_dataset = note_on_dataset(start, options.pretrained, split, train_x);
    const auto of_palette = note_on_palette(start, options.pretrained, split, train_x);
    if (hooks.detail && !of_dataset.empty()) hooks.detail(of_dataset);
    if (hooks.note && !of_palette.empty()) hooks.note(of_palette);
    return;
  }
  const std::string dataset = dataset_of(split);
  const bool other_dataset = !start.dataset.empty() && !dataset.empty() && start.dataset != dataset;
  if (start.train_sha256 == train_sha256) return;
  if (start.train_sha256.empty() && !other_dataset) {
    if (hooks.note)
      hooks.note(options.resume + " does not know the images that it was trained on; make sure that " + train_x +
                 " holds them");
    return;
  }
  std::string difference = "was trained on other images than those of " + train_x;
  if (!start.dataset.empty() && start.dataset != dataset)
    difference = "was trained on " + data::title_of(start.dataset) + ", and " + train_x + " holds " +
                 (dataset.empty() ? "other images" : data::title_of(dataset));
  else if (needs_labels(options))
    difference = "was trained on other images or labels than those of " + train_x + " and " + options.data.train_y;
  const auto expected = expected_images(start, options.resume, /*other_size_cure=*/"");
  const auto command = data::prepare_command(expected, start.dataset, train_x);
  throw InputError(
      options.resume + ": " + difference + "; " + (command.empty() ? "" : "run `" + command + "`, ") +
      "name the right ones with --data_dir or --train_x, or start a new run from its weights with --pretrained");
}

std::vector<std::pair<std::string, std::string>> settings_of_run(const std::string& checkpoint) {
  std::vector<std::pair<std::string, std::string>> settings;
  for (const auto& [name, value] : read_resumable(checkpoint).hyper_parameters)
    if (value.index() > 0) settings.emplace_back(name, to_text(value));
  for (const auto& [name, value] : kUnstoredByOlderRuns)
    if (std::ranges::find(settings, name, &std::pair<std::string, std::string>::first) == settings.end())
      settings.emplace_back(name, value);
  return settings;
}

}  // namespace igpt::training
