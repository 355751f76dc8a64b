#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "igpt/formats/input_file.h"
#include "igpt/formats/stored_tensor.h"

namespace igpt::formats {

/// The tensors of a safetensors file (huggingface/safetensors: README, "Format"). Refuses whatever the format forbids,
/// also where the reference is lenient: every byte behind the header belongs to exactly one tensor, no key is there
/// twice, and none is unknown. Besides, a header has at most 16 MiB, 100,000 tensors with names of at most 1,024 bytes,
/// and 10,000 pairs of metadata, so that it takes little memory.
class SafetensorsReader {
 public:
  struct Tensor {
    std::string name;
    std::string_view dtype;      ///< as the format has it: "F32"; one of those that it knows
    std::vector<int64_t> sizes;  ///< at most 64; empty for a single number
    uint64_t offset = 0;         ///< of its bytes in the file
    uint64_t nbytes = 0;
  };

  /// Reads the header. `name` starts the messages. Throws InputError.
  SafetensorsReader(std::shared_ptr<const InputFile> file, std::string name);
  explicit SafetensorsReader(const std::filesystem::path& path);

  /// Sorted by name.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const Tensor* find(std::string_view name) const;

  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// One of tensors(); contiguous. Its bytes are read on first use, which may throw InputError, and keep the file open.
  /// Throws InputError on a dtype that DType does not have (F4, F6, F8_E8M0).
  StoredTensor read(const Tensor& tensor) const;

 private:
  class Header;

  std::shared_ptr<const InputFile> file_;
  std::string name_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Whether a file begins as one of this format does: to tell it from a checkpoint of torch.save.
bool is_safetensors(const InputFile& file);

/// Writes a file as the reference does, atomically: `metadata`, sorted, with {"format": "pt"}, which transformers
/// demands, unless it has another format, then the tensors, those of the widest dtypes first. They must be contiguous.
/// Throws InputError on those that the format or SafetensorsReader does not allow, igpt::Error when the file cannot be
/// written.
void write_safetensors(const std::filesystem::path& target,
                       const std::vector<std::pair<std::string, StoredTensor>>& tensors,
                       std::map<std::string, std::string> metadata = {});

}  // namespace igpt::formats
