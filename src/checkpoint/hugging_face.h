#pragma once

#include <filesystem>

#include "igpt/checkpoint/checkpoint.h"

namespace igpt {

/// Reads a folder of transformers' ImageGPT: config.json with `model_type: imagegpt`; the weights in model.safetensors
/// or pytorch_model.bin, or in several of either that an index names; and the palette in preprocessor_config.json, if
/// that is there. Throws igpt::InputError as read_checkpoint does, also on a configuration that the architecture igpt
/// does not compute.
Checkpoint read_hugging_face(const std::filesystem::path& folder);

/// Writes such a folder, as a whole or not at all, from a checkpoint of the architecture igpt; `source` is the
/// checkpoint's own path, for messages. Throws igpt::InputError where transformers cannot compute the model, and where
/// the folder is there and has files.
void write_hugging_face(const std::filesystem::path& folder, const Checkpoint& checkpoint, const std::string& source);

}  // namespace igpt
