#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "igpt/data/palette.h"
#include "igpt/data/split.h"
#include "igpt/fields.h"
#include "igpt/libtorch.h"
#include "igpt/model/image_gpt.h"

namespace igpt {

/// The optimizer's moments, shaped as their parameters and in the order of ImageGPT::parameters().
struct OptimizerState {
  int64_t step = 0;                                ///< updates done
  std::vector<torch::Tensor> exp_avg, exp_avg_sq;  ///< Adam's (Kingma and Ba 2015), of the parameters that it updates
  std::vector<torch::Tensor> momentum_buffer;      ///< Muon's (Jordan et al. 2024), of the others; empty: Adam has all
  double learning_rate = 0, initial_learning_rate = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double momentum = 0;  ///< of Muon's last update
};

/// What `--resume` needs in addition to hyper-parameters, weights and the optimizer's state to continue a run bit for
/// bit.
struct TrainingProgress {
  int64_t total_steps = 0;      ///< of the run, for the schedule
  int64_t validated_step = 0;   ///< the last step after which the model was validated
  int64_t best_step = -1;       ///< -1: not validated yet
  double best_score = 0;        ///< val_loss, or val_acc of a classifier
  int64_t bad_validations = 0;  ///< since the best one
  double train_loss_sum = 0;    ///< since the last row of metrics.csv
  int64_t train_loss_count = 0;
  /// The weights as the optimizer has them, in the order of ImageGPT::parameters(), where state_dict holds their moving
  /// average; otherwise empty.
  std::vector<torch::Tensor> weights;
};

/// The content of a checkpoint: a file of torch.save, zip or legacy, of this project or of the original; a .safetensors
/// file of this project; or a folder of transformers' ImageGPT.
struct Checkpoint {
  ImageGPTOptions model;
  std::vector<std::pair<std::string, torch::Tensor>> state_dict;  ///< float32 on the CPU; names without `gpt.`
  bool classify = false;                                          ///< whether it was trained as a classifier
  int64_t epoch = 0, global_step = 0;
  FieldValues hyper_parameters;          ///< the settings of the run; of those of the model, `model` counts
  std::string dataset;                   ///< that it was trained on, "fashion"; empty: not known
  std::string train_sha256;              ///< data::fingerprint of the training images; empty: not known
  std::optional<data::Palette> palette;  ///< of its tokens; nothing where it is not known
  bool lacks_palette = false;            ///< its tokens are indices of a palette that the file does not hold
  bool lacks_head = false;               ///< it has no weights to predict pixels with: a classifier of Hugging Face
  std::optional<OptimizerState> optimizer;
  std::optional<TrainingProgress> progress;  ///< only in this project's files
};

/// Reads and checks a checkpoint. Nothing in the file is run. The state dict's names may have any one prefix, `gpt.` or
/// none, and the wrappers of torch.compile, DDP, SWA, FSDP and activation checkpointing; the hyper-parameters may lie
/// under `hparams` or one level below. Of a folder see src/checkpoint/hugging_face.h. Throws igpt::InputError, one line
/// with the file's name and what to do next, when it is not a checkpoint of an image GPT, is damaged, contradicts
/// itself, or has weights that are not finite.
Checkpoint read_checkpoint(const std::filesystem::path& path);

/// Writes a zip checkpoint that torch.load(path, weights_only=True) reads as a plain dict, atomically. Throws
/// igpt::Error when it cannot be written or a weight is not finite; the file is then what it was before.
void write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// The model of a checkpoint with its weights, on the CPU, in evaluation mode.
ImageGPT make_model(const Checkpoint& checkpoint);

/// The requirements on images for the model of `checkpoint`, which was read from `path`.
data::ExpectedSplit expected_images(const Checkpoint& checkpoint, const std::string& path, std::string other_size_cure);

/// The data set to which the images belong, "fashion"; empty where it is not known.
std::string dataset_of(const data::Split& split);

/// A note for the user where the images in file `x` are known to be from another data set than the images on which the
/// checkpoint was trained; otherwise empty.
std::string note_on_dataset(const Checkpoint& checkpoint, const std::string& path, const data::Split& split,
                            const std::string& x);

/// The same where the checkpoint has a palette of its own and that of the images is not known.
std::string note_on_palette(const Checkpoint& checkpoint, const std::string& path, const data::Split& split,
                            const std::string& x);

/// Throws igpt::InputError when the checkpoint lacks the palette without which its images cannot be drawn.
void require_palette(const Checkpoint& checkpoint, const std::string& path);

/// The same when it cannot predict pixels.
void require_head(const Checkpoint& checkpoint, const std::string& path);

/// The palette of the tokens of `checkpoint`, which was read from `path`; V evenly spaced greys where it names none.
/// Throws igpt::InputError where it lacks the palette that it used.
data::Palette palette_in(const Checkpoint& checkpoint, const std::string& path);

/// The weights of `model` on the CPU, as state_dict has them.
std::vector<std::pair<std::string, torch::Tensor>> copy_state_dict(const ImageGPT& model);

}  // namespace igpt
