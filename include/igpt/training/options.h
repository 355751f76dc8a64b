#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "igpt/hooks.h"
#include "igpt/model/options.h"
#include "igpt/training/launch.h"

namespace igpt::training {

/// The four files that prepare_data writes.
struct DataFiles {
  std::string train_x = "data/train_x.npy";
  std::string train_y = "data/train_y.npy";
  std::string test_x = "data/test_x.npy";
  std::string test_y = "data/test_y.npy";
};

/// What may be done to a training image at random, and leaves its label true.
struct Augmentation {
  int64_t shift = 0;  ///< pixels at most, up or down and left or right; the border's pixels fill the gap
  bool flip = false;  ///< left to right, half of the images

  bool any() const { return shift > 0 || flip; }
};

struct TrainOptions {
  std::string name;        ///< of the folder under log_dir
  std::string pretrained;  ///< checkpoint whose weights to start from; empty: fresh initial values
  std::string resume;      ///< checkpoint of a run to continue in its own folder
  bool classify = false;   ///< train class logits against the labels instead of the next pixel
  ImageGPTOptions model;
  int64_t batch_size = 64;
  double learning_rate = 0.01;
  int64_t steps = 25000;                       ///< optimizer updates
  std::string schedule = "cosine";             ///< cosine, linear or constant
  double hold = 0;                             ///< share of the steps before the rate falls
  int64_t warmup_steps = 0;                    ///< steps in which the rate rises from zero
  std::optional<double> grad_clip;             ///< largest norm of all gradients together
  int64_t accumulate = 1;                      ///< batches of gradients summed up for one update
  int64_t patience = 3;                        ///< validations without a better val_acc before a classifier stops
  std::optional<int64_t> val_interval;         ///< steps; an epoch if not given
  std::optional<int64_t> checkpoint_interval;  ///< steps between writings of last.ckpt; each validation if not given
  int64_t sample_grid = 5;                     ///< images a side, drawn for TensorBoard at each validation; 0: none
  double beta1 = 0.9, beta2 = 0.999;           ///< of Adam's moments
  double weight_decay = 0;                     ///< AdamW's
  double ema = 0.99;               ///< decay of the weights' moving average, which is validated and saved; 0: none
  double embedding_std = 0.1;      ///< spread of the embeddings' and sos' initial values
  Augmentation augment;            ///< of the training images
  double generative_weight = 0;    ///< share of the generative loss in a classifier's
  std::string precision = "fp32";  ///< fp32 or bf16
  std::string activation_checkpointing = "auto";  ///< auto (where memory needs it), on or off
  std::string log_dir = "logs";
  DataFiles data;
  std::string device = "auto";
  int64_t threads = 0;
  int64_t seed = 0;
  Launch launch;  ///< this process among those that train the same model: each takes its share of every batch

  std::vector<std::string> given;  ///< names of the options that the user gave: a checkpoint must not contradict them

  /// All of these as text by option name (cli::Options::values): hparams.yaml, and what a resumed run starts with.
  std::vector<std::pair<std::string, std::string>> settings;
};

struct TrainResult {
  std::string best_checkpoint, last_checkpoint;  ///< paths
  int64_t best_step = 0;
  double best_score = 0;        ///< val_loss in nats per pixel; of a classifier val_acc
  int64_t last_step = 0;        ///< updates done
  bool stopped_early = false;   ///< before the last of them, for want of a better val_acc
  int64_t bad_validations = 0;  ///< since the best one
};

/// Trains as `run train` does: writes log_dir/name/version_N with hparams.yaml, metrics.csv, TensorBoard events and
/// checkpoints/{best,last}.ckpt. On a stop signal it saves last.ckpt and throws igpt::Interrupted. Of several processes
/// (options.launch) rank 0 alone writes and tells; all return the same result.
TrainResult train(const TrainOptions& options, const Hooks& hooks);

/// The settings that the run of a checkpoint was started with. Throws igpt::InputError when the file holds no training
/// state.
std::vector<std::pair<std::string, std::string>> settings_of_run(const std::string& checkpoint);

struct EvaluateOptions {
  std::string checkpoint;
  std::optional<bool> classify;  ///< not given: as the checkpoint was trained
  std::string per_image;         ///< .npy for each image's nats, float64 (N), or a classifier's logits (N, C)
  std::optional<int64_t> limit;  ///< first images only
  int64_t batch_size = 64;
  std::string precision = "fp32";
  std::string test_x = DataFiles{}.test_x, test_y = DataFiles{}.test_y;
  std::string device = "auto";
  int64_t threads = 0;
};

struct EvaluateResult {
  int64_t count = 0;                   ///< images
  double loss = 0;                     ///< nats per pixel, or per label of a classifier
  std::optional<double> bits_per_dim;  ///< loss / ln 2, of the generative model
  std::optional<double> accuracy;      ///< of a classifier
};

/// Loss of a checkpoint over the test images.
EvaluateResult evaluate(const EvaluateOptions& options, const Hooks& hooks);

}  // namespace igpt::training
