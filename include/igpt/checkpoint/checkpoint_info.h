#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "igpt/data/palette.h"
#include "igpt/fields.h"
#include "igpt/model/image_gpt_options.h"

namespace igpt {

/// What a checkpoint says of itself.
struct CheckpointInfo {
  ImageGPTOptions model;
  bool classify = false;
  bool is_resumable = false;                                ///< holds the training state that --resume needs
  std::vector<std::pair<std::string, int64_t>> parameters;  ///< "layers.0" and how many it has, in the model's order
  std::optional<data::Palette> palette;                     ///< nothing where it is not known
  std::string dataset;                                      ///< "fashion"; empty: not known
  int64_t epoch = 0, global_step = 0;
  std::optional<int64_t> best_step;  ///< of the run so far, if it was validated
  double best_score = 0;             ///< val_loss, or val_acc of a classifier
  FieldValues training;              ///< the other settings of the run

  int64_t parameter_count() const {
    int64_t count = 0;
    for (const auto& [layer, size] : parameters) count += size;
    return count;
  }
};

/// Throws igpt::InputError as read_checkpoint does.
CheckpointInfo describe_checkpoint(const std::string& checkpoint);

}  // namespace igpt
