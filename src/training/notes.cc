#include "src/training/notes.h"

#include <cstdio>

#include "igpt/counted.h"
#include "igpt/shell_quoted.h"
#include "igpt/training/schedule.h"

namespace igpt::training {

void describe_start(const TrainOptions& options, const StartDescription& start, const Hooks& hooks) {
  const auto count = [](int64_t number) { return std::to_string(number); };
  const int64_t of_update = images_read(options, 1).value_or(0);
  if (hooks.note && of_update > start.train_images)
    hooks.note("--batch_size " + count(options.batch_size) +
               (options.accumulate > 1 ? " times --accumulate " + count(options.accumulate) : "") +
               " is more than the " + count(start.train_images) +
               " images to train: an update reads some of them more than once, and every " +
               (options.val_interval ? "step ends an epoch" : "step ends an epoch and is followed by a validation"));
  if (hooks.note && options.warmup_steps.value_or(0) > options.steps && start.step < options.steps)
    hooks.note("--warmup_steps " + count(*options.warmup_steps) + " is more than --steps " + count(options.steps) +
               ": the learning rate does not reach its peak");
  if (hooks.detail)
    hooks.detail("model: " + count(start.parameters) + " parameters; data: " + count(start.train_images) +
                 " images to train, " + count(start.validation_images) + " to validate; " + start.kernels +
                 (options.launch.size == 1 ? "" : "; " + count(options.launch.size) + " processes"));
}

void note_new_rate(const TrainOptions& options, int64_t total_steps, int64_t step, const Hooks& hooks) {
  TrainOptions before = options;
  before.steps = total_steps;
  const double old_rate = learning_rate(before, step), rate = learning_rate(options, step);
  if (!hooks.note || step >= options.steps || rate == old_rate) return;
  char line[160];
  std::snprintf(line, sizeof line,
                "--steps %lld, before %lld: the learning rate goes on at %.3g, not at %.3g, and falls to zero again",
                static_cast<long long>(options.steps), static_cast<long long>(before.steps), rate, old_rate);
  hooks.note(line);
}

void note_nothing_left(const TrainOptions& options, int64_t step, const Hooks& hooks) {
  const bool is_beyond = step > options.steps;
  if (hooks.note)
    hooks.note("nothing is left to train: the run is at step " + std::to_string(step) +
               (is_beyond ? ", and --steps is " : " of ") + std::to_string(options.steps) +
               "; a larger --steps goes on");
}

void note_early_stop(const TrainOptions& options, const TrainingProgress& progress, int64_t step,
                     const std::filesystem::path& last_checkpoint, const Hooks& hooks) {
  if (!hooks.note) return;
  char best[64];
  std::snprintf(best, sizeof best, "%.4f at step %lld", progress.best_score,
                static_cast<long long>(progress.best_step));
  hooks.note("stopped early after step " + std::to_string(step) + " of " + std::to_string(options.steps) +
             ": val_acc has not improved on " + best + " for " + counted(progress.bad_validations, "validation") +
             " (--patience); to go on: run train --resume " + shell_quoted(last_checkpoint.string()) +
             " with a larger --patience");
}

}  // namespace igpt::training
