#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "igpt/formats/dtype.h"
#include "igpt/formats/input_file.h"

namespace igpt::formats {

/// The bytes that one or more tensors view, little-endian. Those of a file are read on first use, which must not happen
/// in two threads at once.
class Storage {
 public:
  explicit Storage(SharedBytes bytes) : size_(bytes.bytes.size()), loaded_(std::move(bytes)) {}

  /// `load` returns the `size` bytes; it may throw igpt::InputError.
  Storage(uint64_t size, std::function<SharedBytes()> load) : size_(size), load_(std::move(load)) {}

  uint64_t size() const { return size_; }

  std::span<const std::byte> bytes() const {
    if (load_) loaded_ = load_();
    load_ = nullptr;
    return loaded_.bytes;
  }

 private:
  uint64_t size_;
  mutable SharedBytes loaded_;
  mutable std::function<SharedBytes()> load_;
};

/// A strided view of a storage, like a torch.Tensor. Offset and strides count elements.
struct StoredTensor {
  std::shared_ptr<const Storage> storage;
  DType dtype = DType::float32;
  int64_t offset = 0;
  std::vector<int64_t> sizes, strides;

  int64_t numel() const;
  uint64_t nbytes() const { return static_cast<uint64_t>(numel()) * element_size(dtype); }
};

/// The strides of a contiguous tensor of these sizes, in elements.
std::vector<int64_t> contiguous_strides(std::span<const int64_t> sizes);

/// What is wrong with a tensor whose numbers come from outside ("has a negative stride"), or nothing. A valid tensor
/// has at most 64 dimensions, no negative size, stride or offset, no overflow, and every element inside its storage. It
/// is safe to read, but zero strides may make it far larger than its storage.
std::optional<std::string> tensor_fault(const StoredTensor& tensor);

}  // namespace igpt::formats
