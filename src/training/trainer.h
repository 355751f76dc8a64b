#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "igpt/backend/backend.h"
#include "igpt/checkpoint/checkpoint.h"
#include "igpt/training/ema.h"
#include "igpt/training/flat_optimizer.h"
#include "igpt/training/process_group.h"
#include "igpt/training/token_dataset.h"
#include "igpt/training/train_options.h"
#include "src/training/agreement.h"
#include "src/training/host_update.h"
#include "src/training/run_log.h"

namespace igpt::training {

/// One training: what it starts from (start.h), its state, and the loop. Each process of a group has one, in step with
/// the others and in the same state; rank 0's writes and reports.
class Trainer {
 public:
  Trainer(const TrainOptions& options, const Hooks& hooks);

  TrainResult run();

 private:
  void restore(const Checkpoint& start);
  void work();
  void loop();
  void update();
  void finish_row();
  void validate();
  void save_last();
  void stop_if_asked();
  void expect_identical_ranks();
  void check_loss(int64_t step, double sum, int64_t count);
  void expect_finite(double loss, const char* which, int64_t step) const;
  Checkpoint checkpoint() const;

  /// The model that is validated, drawn from and saved.
  const ImageGPT& trained() const { return ema_ ? ema_->model() : model_; }
  bool validation_due() const;
  bool checkpoint_due() const { return options_.checkpoint_interval && step_ % *options_.checkpoint_interval == 0; }
  bool stops_early() const { return options_.patience && progress_.bad_validations >= *options_.patience; }
  int64_t epoch_of(int64_t step) const { return step * options_.accumulate * options_.batch_size / train_.size(); }
  bool is_better(double score) const;

  TrainOptions options_;
  Hooks hooks_;  // rank 0's; of the others only the stop signal
  c10::Device device_;
  ProcessGroup group_;
  TokenDataset train_, validation_;
  ImageGPT model_{nullptr};
  std::optional<Ema> ema_;  // of the weights; validated and saved in place of them
  std::optional<FlatOptimizer> optimizer_;
  std::unique_ptr<backend::Backend> backend_;
  std::unique_ptr<HostUpdate> update_;
  std::optional<Agreement> agreement_;
  std::optional<RunLog> log_;

  FieldValues hyper_parameters_;
  std::string dataset_, train_sha256_;  // of the training images, as Checkpoint has them
  int64_t step_ = 0;                    // updates done
  TrainingProgress progress_;
  LossRows loss_rows_;
  torch::Tensor step_loss_;  // float64 scalar on the device: of this update's batches
};

}  // namespace igpt::training
