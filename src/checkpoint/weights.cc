#include "src/checkpoint/weights.h"

#include <sstream>

#include "igpt/checkpoint/to_torch.h"
#include "igpt/error.h"

namespace igpt {
namespace {

constexpr uint64_t kStorageAllowance = uint64_t{64} << 20, kStorageShare = 64;

}  // namespace

std::string shape_text(const std::vector<int64_t>& sizes) {
  std::ostringstream text;
  text << "(";
  for (size_t i = 0; i < sizes.size(); ++i) text << (i ? ", " : "") << sizes[i];
  text << (sizes.size() == 1 ? ",)" : ")");
  return text.str();
}

torch::Tensor read_weight(const std::string& path, const std::string& name, const formats::StoredTensor& stored,
                          const std::vector<int64_t>& sizes, const std::string& needed_by) {
  const auto fail = [&](const std::string& predicate) { throw InputError(path + ": " + name + " " + predicate); };
  if (stored.sizes != sizes)
    fail("has shape " + shape_text(stored.sizes) + ", " + needed_by + " needs " + shape_text(sizes));
  const auto type = formats::dtype_name(stored.dtype);
  if (!type.starts_with("float") && type != "bfloat16")
    fail("has dtype " + std::string(type) + ", weights are floating-point numbers");
  // A storage is read as a whole: gigabytes for a few weights are a trap.
  if (stored.storage->size() > kStorageAllowance + kStorageShare * stored.nbytes())
    fail("is a small part of a storage of " + std::to_string(stored.storage->size()) +
         " bytes; save a clone() of it with PyTorch");
  const torch::Tensor numbers = to_torch(stored, torch::kFloat32);
  if (!torch::isfinite(numbers).all().item<bool>())
    fail("has an entry that is not finite; the training diverged, take an earlier checkpoint");
  return numbers;
}

std::vector<ops::Parameter> parameters_of(const ImageGPTOptions& model) {
  return ops::ParameterTable(shape_of(model)).parameters;
}

formats::StoredTensor stored_weight(const torch::Tensor& tensor) {
  const auto owner = std::make_shared<torch::Tensor>(tensor.detach().to(torch::kCPU, torch::kFloat32).contiguous());
  const std::span bytes(static_cast<const std::byte*>(owner->const_data_ptr()), owner->nbytes());
  const auto sizes = owner->sizes().vec();
  return {std::make_shared<const formats::Storage>(formats::SharedBytes{bytes, owner}), formats::DType::float32,
          /*offset=*/0, sizes, formats::contiguous_strides(sizes)};
}

}  // namespace igpt
