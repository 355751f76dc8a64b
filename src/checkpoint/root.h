#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/pickle_value.h"

namespace igpt {

/// The dict that a checkpoint file holds; `path` is the file's. Throws igpt::Error when a weight is not finite.
formats::PickleValue root_of(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// The same from a .safetensors file of this project: the state dict is its tensors, and everything else but the
/// training state stands in its metadata. `name` starts the messages.
formats::PickleValue read_safetensors_root(const std::shared_ptr<const formats::InputFile>& file,
                                           const std::string& name);

/// Writes such a file, atomically.
void write_safetensors_root(const std::filesystem::path& path, const formats::PickleValue& root);

}  // namespace igpt
