#include "src/training/run_log.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <utility>

#include "igpt/shell_quoted.h"
#include "igpt/training/restart.h"
#include "src/training/start.h"

namespace igpt::training {

RunLog::RunLog(const TrainOptions& options, const std::filesystem::path& restarted, int64_t step, bool goes_on,
               const Hooks& hooks, ProcessGroup& group)
    : hooks_(hooks), writes_(group.is_first()) {
  if (writes_) {
    const auto checkpoint =
        options.resume.empty() ? restarted / "checkpoints" / "last.ckpt" : std::filesystem::path(options.resume);
    const bool begins = options.resume.empty() && restarted.empty();
    // The process that the launcher has started this one for may still be ending.
    const std::chrono::seconds patience(restarted.empty() ? 0 : 10);
    folder_.emplace(begins ? RunFolder::create(options.log_dir, options.name, hooks_.note)
                           : RunFolder::reopen(checkpoint, step, hooks_.note, patience));
    runs::write_state(folder_->path(), {.state = runs::State::training, .step = step});
    job_record(options).remember(folder_->path());
    if (goes_on) {
      folder_->write_hparams(settings_of(options));  // of a resumed run too: some may have been given anew
      events_ = std::make_unique<formats::EventWriter>(folder_->path());
      if (!begins) events_->restart(step + 1);
    }
  }
  const auto path = group.from_first(folder_ ? folder_->path().string() : "");
  if (!folder_) folder_.emplace(RunFolder::of_another_process(path));
}

void RunLog::training(const Metrics& metrics) {
  if (writes_) {
    events_->scalar("train_loss", *metrics.train_loss, metrics.step);
    events_->scalar("learning_rate", *metrics.learning_rate, metrics.step);
    folder_->add(metrics);
  }
  if (!hooks_.detail) return;
  char line[96];
  std::snprintf(line, sizeof line, "step %lld: train_loss %.5f, learning rate %.3g",
                static_cast<long long>(metrics.step), *metrics.train_loss, *metrics.learning_rate);
  hooks_.detail(line);
}

void RunLog::validation(const Metrics& metrics, const std::optional<formats::Image>& samples) {
  if (!writes_) return;
  folder_->add(metrics);
  events_->scalar("val_loss", *metrics.val_loss, metrics.step);
  if (metrics.val_acc) events_->scalar("val_acc", *metrics.val_acc, metrics.step);
  if (samples) events_->image("samples", *samples, metrics.step);
}

void RunLog::validated(const Metrics& metrics, bool is_best) const {
  if (!hooks_.note) return;
  char line[160];
  std::snprintf(line, sizeof line, "step %lld, epoch %lld: val_loss %.5f", static_cast<long long>(metrics.step),
                static_cast<long long>(metrics.epoch), *metrics.val_loss);
  std::string text = line;
  std::snprintf(line, sizeof line, ", val_acc %.4f", metrics.val_acc.value_or(0));
  if (metrics.val_acc) text += line;
  hooks_.note(text + (is_best ? " (best)" : ""));
}

void RunLog::save_best(const Checkpoint& checkpoint) {
  write_checkpoint(folder_->best_checkpoint(), checkpoint);
}

void RunLog::save_among_best(int64_t step, const TrainOptions& options, const std::function<Checkpoint()>& checkpoint) {
  auto steps = folder_->kept_steps();
  if (options.save_top_k == 1) {  // what a start with more has left
    for (const int64_t kept : steps) std::filesystem::remove(folder_->kept_checkpoint(kept));
    return;
  }
  const auto scores = folder_->validations(options.classify);
  // From the best to the worst; of equal ones the earlier is better, and what was never validated is worst.
  steps.push_back(step);
  const auto rank = [&](int64_t at) {
    const auto score = scores.find(at);
    const double none = std::numeric_limits<double>::infinity();
    return std::pair(score == scores.end() ? none : options.classify ? -score->second : score->second, at);
  };
  std::ranges::sort(steps, {}, rank);
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  for (size_t place = 0; place < steps.size(); ++place) {
    const bool is_kept = place < static_cast<size_t>(options.save_top_k);
    if (is_kept && steps[place] == step)
      write_checkpoint(folder_->kept_checkpoint(step), checkpoint());
    else if (!is_kept)
      std::filesystem::remove(folder_->kept_checkpoint(steps[place]));
  }
}

void RunLog::save_last(const Checkpoint& checkpoint) {
  folder_->flush_metrics();
  write_checkpoint(folder_->last_checkpoint(), checkpoint);
}

void RunLog::ended(runs::State state, int64_t step, const std::string& reason) const noexcept try {
  if (writes_) runs::write_state(folder_->path(), {state, step, reason});
} catch (const std::exception&) {  // what ended the training counts more
}

std::string RunLog::how_to_go_on() const {
  const auto last = folder_->last_checkpoint();
  return std::filesystem::exists(last) ? "; to go on: run train --resume " + shell_quoted(last.string()) : "";
}

LossRows::LossRows(c10::Device device) : sum_(torch::zeros({}, torch::TensorOptions(device).dtype(torch::kFloat64))) {}

void LossRows::begin(int64_t step) {
  begun_ = {step, count_, AsyncScalar(sum_)};
  sum_.zero_();
  count_ = 0;
}

std::optional<LossRows::Row> LossRows::finish() {
  if (!begun_) return {};
  const Begun row = *std::exchange(begun_, std::nullopt);
  return Row{row.step, row.batches, row.sum.get()};
}

void LossRows::restore(double sum, int64_t count) {
  sum_.fill_(sum);
  count_ = count;
}

}  // namespace igpt::training
