#pragma once

#include <memory>
#include <span>
#include <vector>

#include "igpt/formats/pickle_value.h"

namespace igpt::testing {

/// A contiguous tensor of these values.
template <class T>
formats::PickleValue tensor_of(formats::DType dtype, std::vector<int64_t> sizes, std::vector<T> values) {
  const auto owner = std::make_shared<const std::vector<T>>(std::move(values));
  return formats::PickleValue::tensor(dtype, std::move(sizes), std::as_bytes(std::span(*owner)), owner);
}

/// The bytes of a tensor's elements in row-major order.
inline std::vector<std::byte> elements_of(const formats::StoredTensor& tensor) {
  std::vector<std::byte> elements;
  const size_t width = formats::element_size(tensor.dtype);
  const auto bytes = tensor.storage->bytes();
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    int64_t element = tensor.offset, rest = i;
    for (size_t d = tensor.sizes.size(); d-- > 0; rest /= tensor.sizes[d])
      element += rest % tensor.sizes[d] * tensor.strides[d];
    const auto at = bytes.begin() + element * static_cast<int64_t>(width);
    elements.insert(elements.end(), at, at + static_cast<int64_t>(width));
  }
  return elements;
}

}  // namespace igpt::testing
