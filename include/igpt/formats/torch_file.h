#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "igpt/formats/input_file.h"
#include "igpt/formats/pickle_value.h"

namespace igpt::formats {

/// Reads a file of torch.save, of the zip container (since PyTorch 1.6) or the legacy one before it. The file stays
/// open: a tensor's bytes are read on first use, which may throw InputError. Runs no code; each tensor lies inside its
/// storage, and all tensors together are at most twice as large as the file, plus 16 MiB. Throws InputError with one
/// line on whatever is not such a file.
PickleValue read_torch_file(const std::filesystem::path& path);

/// The same of an open file; `name` starts the messages.
PickleValue read_torch_file(const std::shared_ptr<const InputFile>& file, const std::string& name);

/// Writes what torch.load(path, weights_only=True) reads, also with mmap=True, atomically.
void write_torch_file(const std::filesystem::path& target, const PickleValue& root);

}  // namespace igpt::formats
