#include "src/training/trainer.h"

#include <cmath>
#include <cstdio>

#include "igpt/backend/devices.h"
#include "igpt/error.h"
#include "igpt/shell_quoted.h"
#include "igpt/training/schedule.h"
#include "src/training/notes.h"
#include "src/training/ranks.h"
#include "src/training/start.h"
#include "src/training/validation.h"

namespace igpt::training {
namespace {

// What the program prints of a stop, which a quiet one must say, too.
class Stopped : public Interrupted {
 public:
  Stopped(int signal_number, int64_t step, const std::string& how_to_go_on)
      : Interrupted(signal_number),
        message_(Interrupted::what() + (" after step " + std::to_string(step)) + how_to_go_on) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

}  // namespace

TrainResult Trainer::run() try {
  work();
  const bool early = stops_early() && step_ < options_.steps;
  log_->ended(runs::State::finished, step_, early ? "val_acc did not improve any more (--patience)" : "");
  return {.best_checkpoint = log_->folder().best_checkpoint().string(),
          .last_checkpoint = log_->folder().last_checkpoint().string(),
          .best_step = progress_.best_step,
          .best_score = progress_.best_score,
          .last_step = step_,
          .stopped_early = early,
          .bad_validations = progress_.bad_validations};
} catch (const Interrupted& stop) {
  log_->ended(runs::State::stopped, step_, Interrupted(stop.signal).what());
  throw;
} catch (const std::exception& error) {
  log_->ended(runs::State::failed, step_, error.what());
  throw;
}

void Trainer::work() {
  try {
    backend::report_device_errors([this] {
      expect_identical_ranks();
      loop();
    });
    group_.wait_for_all();  // rank 0 may be the one through which the others would hear of each other
  } catch (const RanksLost& error) {
    if (const int signal = agreement_->own_stop_signal()) throw Interrupted(signal);
    throw Error(error.what() + log_->how_to_go_on());
  } catch (const DeviceError& error) {
    throw Error(error.what() + log_->how_to_go_on());
  }
}

void Trainer::loop() {
  if (step_ >= options_.steps) note_nothing_left(options_, step_, hooks_);
  if (validation_due() && progress_.validated_step < step_) {  // was stopped before or while validating
    validate();
    save_last();
  }
  while (step_ < options_.steps && !stops_early()) {
    update();
    finish_row();  // while the device computes that update
    if (step_ % options_.log_interval == 0 || validation_due()) loss_rows_.begin(step_);
    if (update_->loss_is_at_hand()) finish_row();
    if (validation_due()) validate();
    if (validation_due() || checkpoint_due()) save_last();
    agreement_->look_whether_alone();
    stop_if_asked();
  }
  if (stops_early() && step_ < options_.steps)
    note_early_stop(options_, progress_, step_, log_->folder().last_checkpoint(), hooks_);
}

// An update from this rank's share of each batch, and everybody else's.
void Trainer::update() {
  if (group_.alone()) {
    update_->run(step_);
  } else {
    update_->compute_gradients(step_);
    agreement_->sum(*optimizer_, step_loss_, step_);
    update_->apply(step_);
  }
  loss_rows_.add(options_.accumulate);
  ++step_;
  if (update_->loss_is_at_hand()) check_loss(step_, loss_rows_.sum().item<double>(), loss_rows_.count());
}

void Trainer::finish_row() {
  const auto row = loss_rows_.finish();
  if (!row) return;
  if (!update_->loss_is_at_hand()) check_loss(row->step, row->sum, row->batches);
  Metrics metrics{.step = row->step, .epoch = epoch_of(row->step)};
  metrics.train_loss = row->sum / static_cast<double>(row->batches);
  metrics.learning_rate = learning_rate(options_, row->step - 1);
  log_->training(metrics);
}

void Trainer::validate() {
  finish_row();
  expect_identical_ranks();
  const Score result = score_validation(trained(), validation_, options_, group_, [this] {
    agreement_->agree_on_stop();
    stop_if_asked();
  });
  expect_finite(result.loss, "validation loss", step_);
  Metrics metrics{.step = step_, .epoch = epoch_of(step_), .val_loss = result.loss};
  if (options_.classify) metrics.val_acc = result.accuracy;
  std::optional<formats::Image> samples;
  if (group_.is_first() && draws_samples(options_))
    samples = draw_sample_grid(trained(), options_, [this] { return agreement_->own_stop_signal(); });
  agreement_->agree_on_stop();
  stop_if_asked();  // before anything is logged: a resumed run validates here again
  log_->validation(metrics, samples);
  progress_.validated_step = step_;
  const double score = options_.classify ? result.accuracy : result.loss;
  const bool is_best = is_better(score);
  progress_.bad_validations = is_best ? 0 : progress_.bad_validations + 1;
  if (is_best) {
    progress_.best_score = score;
    progress_.best_step = step_;
    if (group_.is_first()) log_->save_best(checkpoint());
  }
  if (group_.is_first()) log_->save_among_best(step_, options_, [this] { return checkpoint(); });
  log_->validated(metrics, is_best);
}

void Trainer::save_last() {
  finish_row();
  expect_identical_ranks();
  if (group_.is_first()) log_->save_last(checkpoint());
}

void Trainer::stop_if_asked() {
  if (agreement_->stop_signal() == 0) return;
  save_last();
  group_.wait_for_all();  // a launcher that sees one end may end the others, rank 0 while it saves
  if (!group_.is_first()) throw Interrupted(agreement_->stop_signal());
  throw Stopped(agreement_->stop_signal(), step_, log_->how_to_go_on());
}

void Trainer::expect_identical_ranks() {
  if (group_.alone()) return;
  const OptimizerBuffers& buffers = optimizer_->buffers();
  std::vector<torch::Tensor> state{buffers.weights, buffers.exp_avg, buffers.exp_avg_sq};
  if (ema_) state.push_back(ema_->weights());
  expect_identical(state, step_, group_);
}

// After every update where the loss is at hand; elsewhere only with a row, since reading waits for the device.
void Trainer::check_loss(int64_t step, double sum, int64_t count) {
  group_.check();
  if (hooks_.progress) {
    char note[32];
    std::snprintf(note, sizeof note, "loss %.4f", sum / static_cast<double>(count));
    hooks_.progress(options_.steps, step, note);
  }
  expect_finite(sum, "loss", step);
}

void Trainer::expect_finite(double loss, const char* which, int64_t step) const {
  if (std::isfinite(loss)) return;
  const auto last = log_->folder().last_checkpoint();
  throw Error("step " + std::to_string(step) + ": the " + which +
              " is not finite; start a new run with a lower --learning_rate" +
              (options_.grad_clip == 0 ? " or with --grad_clip 1" : "") +
              (options_.weight_decay > 0 ? " or a lower --weight_decay" : "") +
              (std::filesystem::exists(last) ? "; --pretrained " + shell_quoted(last.string()) +
                                                   " starts it from the weights that were saved last"
                                             : ""));
}

bool Trainer::validation_due() const {
  if (step_ == 0) return false;
  if (step_ >= options_.steps) return true;
  if (options_.val_interval) return step_ % *options_.val_interval == 0;
  return epoch_of(step_) > epoch_of(step_ - 1);
}

bool Trainer::is_better(double score) const {
  if (progress_.best_step < 0) return true;
  return options_.classify ? score > progress_.best_score : score < progress_.best_score;
}

TrainResult train(const TrainOptions& options, const Hooks& hooks) {
  if (auto result = finished_run(options, hooks)) return *result;
  std::optional<Trainer> trainer;
  backend::report_device_errors([&] { trainer.emplace(options, hooks); });
  return trainer->run();
}

}  // namespace igpt::training
