#include "igpt/formats/stored_tensor.h"

#include <algorithm>

#include "igpt/formats/checked.h"

namespace igpt::formats {

int64_t StoredTensor::numel() const {
  int64_t product = 1;
  for (const int64_t size : sizes) product *= size;
  return product;
}

std::vector<int64_t> contiguous_strides(std::span<const int64_t> sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(sizes[i], 1);
  }
  return strides;
}

std::optional<std::string> tensor_fault(const StoredTensor& tensor) {
  if (!tensor.storage) return "has no storage";
  if (tensor.sizes.size() > 64) return "has more than 64 dimensions";
  if (tensor.sizes.size() != tensor.strides.size()) return "has as many strides as it has not sizes";
  if (tensor.offset < 0) return "starts before its storage";
  // The bound is on bytes, with sizes of 0 counted as 1, so that no later product can overflow.
  std::optional<int64_t> bytes = static_cast<int64_t>(element_size(tensor.dtype));
  std::optional<int64_t> last = tensor.offset;
  bool empty = false;
  for (size_t i = 0; i < tensor.sizes.size(); ++i) {
    const int64_t size = tensor.sizes[i], stride = tensor.strides[i];
    if (size < 0) return "has a negative size";
    if (stride < 0) return "has a negative stride";
    empty |= size == 0;
    bytes = bytes ? checked_multiply(*bytes, std::max<int64_t>(size, 1)) : bytes;
    const auto reach = checked_multiply(stride, std::max<int64_t>(size, 1) - 1);
    last = last && reach ? checked_add(*last, *reach) : std::nullopt;
  }
  if (!bytes || !last) return "has more elements than can be counted";
  const auto capacity = static_cast<int64_t>(tensor.storage->size() / element_size(tensor.dtype));
  if (empty ? tensor.offset > capacity : *last >= capacity) return "reaches beyond the end of its storage";
  return std::nullopt;
}

}  // namespace igpt::formats
