#pragma once

#include <memory>
#include <optional>
#include <string>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/formats/events.h"
#include "igpt/ops/fused_model.h"
#include "igpt/training/flat_adam.h"
#include "igpt/training/options.h"
#include "igpt/training/run_folder.h"
#include "igpt/training/scoring.h"
#include "igpt/training/token_dataset.h"
#include "igpt/training/weight_average.h"

namespace igpt::training {

/// One training: what it starts from, its state, and the loop.
class Trainer {
 public:
  Trainer(const TrainOptions& options, const Hooks& hooks);

  TrainResult run();

 private:
  void describe() const;
  void update();
  TokenDataset next_batch(int64_t position);
  void add_gradients(const TokenDataset& batch);
  double add_fused_gradients(const TokenDataset& batch, double scale);
  torch::Tensor loss_of(const TokenDataset& batch);
  const ImageGPT& trained() const;
  void validate();
  void draw_samples();
  void log_training();
  void check_loss();
  void save_last();
  Checkpoint checkpoint() const;
  bool validation_due() const;
  bool checkpoint_due() const;
  bool stops_early() const;
  void stop_if_asked();
  int64_t epoch_of(int64_t step) const;
  bool better(double score) const;

  TrainOptions options_;
  const Hooks& hooks_;
  c10::Device device_;
  TokenDataset train_, validation_;
  ImageGPT model_{nullptr};
  std::vector<torch::Tensor> parameters_;  // the model's
  std::optional<WeightAverage> average_;   // what is validated and saved in place of the model
  std::optional<FlatAdam> adam_;
  std::optional<ops::FusedModel> fused_;  // for small models on the CPU, instead of LibTorch's operations
  std::optional<BatchOrder> order_;
  std::optional<RunFolder> folder_;
  std::unique_ptr<formats::EventWriter> events_;
  HyperParameters hyper_parameters_;

  int64_t step_ = 0;  // updates done
  TrainingProgress progress_;
  torch::Tensor loss_sum_;  // float64 scalar on the device: since the last row of metrics.csv
  int64_t loss_count_ = 0;
};

}  // namespace igpt::training
