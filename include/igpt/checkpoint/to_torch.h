#pragma once

#include "igpt/formats/stored_tensor.h"
#include "igpt/libtorch.h"

namespace igpt {

/// A contiguous copy of a tensor from a file, on the CPU, as `dtype`.
torch::Tensor to_torch(const formats::StoredTensor& stored, torch::ScalarType dtype);

}  // namespace igpt
