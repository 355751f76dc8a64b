#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "igpt/formats/value.h"
#include "igpt/formats/zip.h"

namespace igpt::formats {

/// What torch.save wrote.
struct TorchFile {
  enum class Container { zip, legacy };

  Container container = Container::zip;
  Value root;  ///< a tensor's bytes are read when they are looked at first, which may throw InputError
};

/// Reads a file of torch.save, of the zip container (since 1.6) or the one before; it stays open for its tensors. Runs
/// nothing; each tensor lies
/// inside its storage, and all tensors together are at most twice as large as the file, plus 16 MiB. Throws InputError
/// with one line on whatever is not such a file.
TorchFile read_torch_file(const std::filesystem::path& path);

/// The same of any source or of memory; `name` starts the messages.
TorchFile parse_torch_file(std::shared_ptr<const ByteSource> source, const std::string& name);
TorchFile parse_torch_file(std::shared_ptr<const std::vector<std::byte>> bytes, const std::string& name);

/// Writes what torch.load(path, weights_only=True) reads, also with mmap=True, in place of `target` when complete.
void write_torch_file(const std::filesystem::path& target, const Value& root);

/// The same into a sink; `archive_name` (the file's stem) is the folder inside the archive.
void write_torch_file(const Sink& sink, const std::string& archive_name, const Value& root);

}  // namespace igpt::formats
