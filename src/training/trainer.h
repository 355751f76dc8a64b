#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "device_update.h"
#include "igpt/checkpoint/checkpoint.h"
#include "igpt/formats/events.h"
#include "igpt/training/flat_adam.h"
#include "igpt/training/options.h"
#include "igpt/training/process_group.h"
#include "igpt/training/restart.h"
#include "igpt/training/run_folder.h"
#include "igpt/training/scoring.h"
#include "igpt/training/token_dataset.h"
#include "igpt/training/weight_average.h"
#include "late_reading.h"
#include "update.h"

namespace igpt::training {

/// One training: what it starts from, its state, and the loop. Each process of a group has one, in step with the others
/// and in the same state; rank 0's writes and tells.
class Trainer {
 public:
  Trainer(const TrainOptions& options, const Hooks& hooks);

  TrainResult run();

 private:
  void continue_restarted_run();
  void tell_new_rate() const;
  void open_folder();
  JobRecord job_record() const;
  void describe() const;
  void loop();
  void tell_early_stop() const;
  void update();
  void sum_over_ranks();
  void expect_identical_ranks();
  const ImageGPT& trained() const;
  void validate();
  Score score_validation();
  std::optional<formats::Image> draw_samples();
  bool reads_every_loss() const { return device_.is_cpu() && !device_update_; }
  void begin_row();
  void finish_row();
  void check_loss(int64_t step, double sum, int64_t count);
  void expect_finite(double loss, const char* which, int64_t step) const;
  void save_last();
  Checkpoint checkpoint() const;
  bool validation_due() const;
  bool checkpoint_due() const;
  bool stops_early() const;
  int own_stop_signal();
  void agree_on_stop();
  void stop_if_asked();
  int64_t epoch_of(int64_t step) const;
  bool better(double score) const;

  TrainOptions options_;
  Hooks hooks_;  // rank 0's; of the others only the stop signal
  c10::Device device_;
  ProcessGroup group_;
  TokenDataset train_, validation_;
  ImageGPT model_{nullptr};
  std::vector<torch::Tensor> parameters_;  // the model's
  std::optional<WeightAverage> average_;   // what is validated and saved in place of the model
  std::optional<FlatAdam> adam_;
  std::optional<EagerUpdate> update_;
  std::unique_ptr<DeviceUpdate> device_update_;  // what computes updates instead, where a device has kernels for it
  std::optional<RunFolder> folder_;
  std::filesystem::path restarted_;  // the run's folder, if the job's launcher started it again
  std::unique_ptr<formats::EventWriter> events_;
  FieldValues hyper_parameters_;
  std::string dataset_, train_sha256_;  // of the training images, as Checkpoint has them

  int64_t step_ = 0;  // updates done
  TrainingProgress progress_;
  torch::Tensor step_loss_;  // float64 scalar on the device: of this update's batches
  torch::Tensor loss_sum_;   // the same since the last row of metrics.csv
  int64_t loss_count_ = 0;
  struct Row {  // of the training loss in metrics.csv
    int64_t step, batches;
    LateReading sum;
  };
  std::optional<Row> row_;  // that has begun

  int own_signal_ = 0, signal_ = 0;  // to stop for: what this process got, and what all have agreed on
  int64_t next_look_ = 0;            // update after which all look whether to stop
  int64_t last_look_ = 0;
  std::chrono::steady_clock::time_point last_look_time_;
};

}  // namespace igpt::training
