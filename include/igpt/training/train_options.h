#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "igpt/distributed.h"
#include "igpt/fields.h"
#include "igpt/hooks.h"
#include "igpt/model/image_gpt_options.h"

namespace igpt::training {

/// The four files that prepare_data writes.
struct DataFiles {
  std::string train_x = "data/train_x.npy";
  std::string train_y = "data/train_y.npy";
  std::string test_x = "data/test_x.npy";
  std::string test_y = "data/test_y.npy";
};

/// Random changes to a training image that leave its label true.
struct Augmentation {
  int64_t shift = 0;
  std::string padding = "edge";  ///< what fills the gap of a shift
  bool flip = false;

  bool any() const { return shift > 0 || flip; }
};

constexpr const char* kPrecisionHelp = "of matrix products; small models on a CPU use fp32, which is faster";

/// The options of `run train`. for_each_field below says what each means.
struct TrainOptions {
  std::string name, pretrained, resume, log_dir = "logs";
  bool classify = false;
  ImageGPTOptions model;
  int64_t steps = 25000, batch_size = 64, accumulate = 1;
  std::string optimizer = "muon";
  double learning_rate = 0.01;
  std::string schedule = "linear";
  double hold = 0.5;
  std::optional<int64_t> warmup_steps;
  double grad_clip = 1;  ///< 0: none
  double muon_momentum = 0.95, beta1 = 0.9, beta2 = 0.999, weight_decay = 0;
  std::optional<double> ema;
  std::optional<double> embedding_std;
  Augmentation augment;
  double generative_weight = 0.2;  ///< of a classifier's training
  std::optional<int64_t> patience;
  std::optional<int64_t> val_interval, checkpoint_interval;
  int64_t log_interval = 50, save_top_k = 1;
  int64_t sample_grid = 5;
  std::string precision = "fp32", activation_checkpointing = "auto";
  int64_t seed = 0;
  DataFiles data;
  std::string device = "auto";
  int64_t threads = 0;        ///< 0: all cores
  DistributedContext launch;  ///< several processes that train together take a share of every batch each

  std::vector<std::string> given;  ///< names of the options that the user gave: a checkpoint must not contradict them
};

/// See igpt/fields.h.
template <class Visit>
void for_each_field(TrainOptions& o, const Visit& visit) {
  constexpr Attributes kRun{.group = "Run"}, kTraining{.group = "Training"};
  constexpr Attributes kOfThisStart{.group = "Run", .of_run = false, .placeholder = "CKPT|DIR|last"};
  constexpr Attributes kFreeOnResume{.group = "Training", .free_on_resume = true};
  constexpr Attributes kData{.group = "Data", .free_on_resume = true, .free_per_rank = true, .placeholder = "FILE"};
  const auto with_default = [](const char* shown_default) {
    return Attributes{.group = "Training", .shown_default = shown_default};
  };

  visit("name", o.name, "folder of the run under --log_dir",
        Attributes{.group = "Run", .short_name = "n", .placeholder = "NAME"});
  visit("log_dir", o.log_dir, "where runs are kept",
        Attributes{.group = "Run", .free_on_resume = true, .free_per_rank = true, .placeholder = "DIR"});
  visit("pretrained", o.pretrained, "checkpoint whose weights to start from",
        Attributes{.group = "Run", .placeholder = "CKPT"});
  visit("resume", o.resume,
        "run to continue with its own options: its last.ckpt, its folder or that of its name, or last: the run "
        "of --name that saved last, or a new one where there is none",
        kOfThisStart);
  visit("classify", o.classify, "train a classifier on the labels", kRun);

  for_each_field(o.model, visit);

  visit("steps", o.steps, "optimizer updates", kFreeOnResume, at_least(1));
  visit("batch_size", o.batch_size, "images in a batch", kTraining, between(1, 1 << 20));
  visit("accumulate", o.accumulate, "batches whose gradients are summed for one update", kTraining,
        between(1, 1 << 20));
  visit("optimizer", o.optimizer, "what updates the matrices of the blocks; everything else is updated by Adam",
        kTraining, one_of({"adam", "muon"}));
  visit("learning_rate", o.learning_rate, "peak rate of the optimizer", kTraining, greater_than(0));
  visit("schedule", o.schedule, "how the rate falls", kTraining, one_of({"cosine", "linear", "constant"}));
  visit("hold", o.hold, "share of the steps before the rate falls", kTraining, within(0, 1));
  visit("warmup_steps", o.warmup_steps, "steps in which the rate rises from zero",
        with_default("those of 6,400 images, at most a twentieth of --steps"), at_least(0));
  visit("grad_clip", o.grad_clip, "largest norm of all gradients together; 0: any", kTraining, not_negative());
  visit("muon_momentum", o.muon_momentum,
        "momentum of Muon; one above 0.85 is reached from there in the first 3 x --warmup_steps steps", kTraining,
        strictly_between(0, 1));
  visit("beta1", o.beta1, "decay of Adam's first moment", kTraining, half_open(0, 1));
  visit("beta2", o.beta2, "decay of Adam's second moment", kTraining, half_open(0, 1));
  visit("weight_decay", o.weight_decay,
        "weight decay of AdamW; Muon's acts only where an update, too, shrinks the weight", kTraining, not_negative());
  visit("ema", o.ema, "decay of the weights' moving average, which is validated and saved; 0: none",
        with_default("averages over 6,400 images: 0.99 with batches of 64"), half_open(0, 1));
  visit("embedding_std", o.embedding_std, "standard deviation of the embeddings' initial values",
        with_default("0.1; of igpt the paper's"), greater_than(0));
  visit("augment_shift", o.augment.shift, "shift training images at random by up to this many pixels", kTraining,
        at_least(0));
  visit("augment_padding", o.augment.padding,
        "what moves into a shifted image: its border pixels again, or the image mirrored at them", kTraining,
        one_of({"edge", "reflect"}));
  visit("augment_flip", o.augment.flip, "mirror half of the training images, left to right", kTraining);
  visit("generative_weight", o.generative_weight, "weight of the generative loss in a classifier's", kTraining,
        not_negative());
  visit("patience", o.patience, "validations without a better val_acc before a classifier stops",
        Attributes{.group = "Training", .free_on_resume = true, .shown_default = "no limit"}, at_least(1));
  visit("val_interval", o.val_interval, "steps between validations", with_default("an epoch"), at_least(1));
  visit("checkpoint_interval", o.checkpoint_interval, "steps between writes of last.ckpt",
        with_default("each validation"), at_least(1));
  visit("save_top_k", o.save_top_k,
        "how many of the best checkpoints are kept: best.ckpt and, of more than one, each as step_N.ckpt",
        kFreeOnResume, between(1, 1000));
  visit("log_interval", o.log_interval, "steps between rows of the training loss in metrics.csv", kFreeOnResume,
        at_least(1));
  visit("sample_grid", o.sample_grid, "N x N images drawn for TensorBoard at each validation; 0: none", kFreeOnResume,
        between(0, 32));
  // 32 and 16 are the original's names; the command line translates them.
  visit("precision", o.precision, kPrecisionHelp, kTraining,
        Allowed<std::string>{"fp32 or bf16 (32 or 16, as the original has it)",
                             one_of({"fp32", "bf16", "32", "16"}).test,
                             {"fp32", "bf16"}});
  visit("activation_checkpointing", o.activation_checkpointing,
        "recompute each block for its gradients to save memory; auto: where memory requires it; fused kernels never do",
        kFreeOnResume, one_of({"auto", "on", "off"}));
  visit("seed", o.seed, "seed of all random numbers",
        Attributes{.group = "Training", .free_per_rank = true, .shown_default = "drawn and printed"}, any_seed());

  visit("train_x", o.data.train_x, "training images", kData);
  visit("train_y", o.data.train_y, "training labels, for --classify and --conditional", kData);
  visit("test_x", o.data.test_x, "test images; stored with the run, training does not read them", kData);
  visit("test_y", o.data.test_y, "test labels; likewise", kData);

  visit("rank_timeout", o.launch.timeout, "seconds that processes training together wait for each other",
        Attributes{.group = "Program", .of_run = false}, between(1, 1000000));
}

/// What older runs did without storing it, whatever the default is now.
struct UnstoredSetting {
  const char *option, *value;
};
inline constexpr UnstoredSetting kUnstoredByOlderRuns[] = {
    {"optimizer", "adam"}, {"grad_clip", "0"}, {"generative_weight", "0"}};

/// Throws igpt::UsageError on options with which no training is possible.
void check(const TrainOptions& options);

/// What is stored of the options: in hparams.yaml and as the hyper-parameters of checkpoints.
FieldValues settings_of(const TrainOptions& options);

/// The number of images that so many updates read; nothing where it overflows.
std::optional<int64_t> images_read(const TrainOptions& options, int64_t steps);

struct TrainResult {
  std::string best_checkpoint, last_checkpoint;  ///< paths
  int64_t best_step = 0;
  double best_score = 0;        ///< val_loss in nats per pixel; of a classifier val_acc
  int64_t last_step = 0;        ///< updates done
  bool stopped_early = false;   ///< before the last step, because val_acc did not improve
  int64_t bad_validations = 0;  ///< since the best one
};

/// Trains as `run train` does: writes log_dir/name/version_N with hparams.yaml, metrics.csv, TensorBoard events and
/// checkpoints/{best,last}.ckpt. On a stop signal it saves last.ckpt and throws igpt::Interrupted. Of several processes
/// (options.launch) only rank 0 writes files and reports progress; all return the same result.
TrainResult train(const TrainOptions& options, const Hooks& hooks);

/// The settings that the run of a checkpoint was started with, by option name. Throws igpt::InputError when the file
/// holds no training state.
std::vector<std::pair<std::string, std::string>> settings_of_run(const std::string& checkpoint);

}  // namespace igpt::training
