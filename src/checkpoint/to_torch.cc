#include "igpt/checkpoint/to_torch.h"

namespace igpt {

torch::Tensor to_torch(const formats::StoredTensor& stored, torch::ScalarType dtype) {
  static constexpr torch::ScalarType types[] = {// in the order of formats::DType
                                                torch::kFloat64,       torch::kFloat32,
                                                torch::kFloat16,       torch::kBFloat16,
                                                torch::kFloat8_e4m3fn, torch::kFloat8_e4m3fnuz,
                                                torch::kFloat8_e5m2,   torch::kFloat8_e5m2fnuz,
                                                torch::kComplexFloat,  torch::kComplexDouble,
                                                torch::kInt64,         torch::kInt32,
                                                torch::kInt16,         torch::kInt8,
                                                torch::kUInt64,        torch::kUInt32,
                                                torch::kUInt16,        torch::kUInt8,
                                                torch::kBool};
  static_assert(std::size(types) == std::size(formats::dtypes));
  const auto bytes = stored.storage->bytes();
  const auto count = static_cast<int64_t>(bytes.size() / formats::element_size(stored.dtype));
  const auto whole =
      torch::from_blob(const_cast<std::byte*>(bytes.data()), {count}, types[static_cast<size_t>(stored.dtype)]);
  return torch::as_strided(whole, stored.sizes, stored.strides, stored.offset)
      .to(dtype, /*non_blocking=*/false, /*copy=*/true, torch::MemoryFormat::Contiguous);
}

}  // namespace igpt
