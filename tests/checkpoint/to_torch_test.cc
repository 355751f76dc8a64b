#include "igpt/checkpoint/to_torch.h"

#include <gtest/gtest.h>

#include "igpt/formats/torch_file.h"
#include "tensor_values.h"

namespace igpt {
namespace {

using formats::DType;
using formats::PickleValue;
using formats::StoredTensor;

StoredTensor view(std::vector<int64_t> sizes, std::vector<int64_t> strides, int64_t offset = 0) {
  std::vector<int32_t> values(24);
  std::iota(values.begin(), values.end(), 0);
  const PickleValue whole = testing::tensor_of(DType::int32, {24}, values);
  return {whole.as_tensor()->storage, DType::int32, offset, std::move(sizes), std::move(strides)};
}

std::vector<double> numbers(const StoredTensor& stored) {
  const auto tensor = to_torch(stored, torch::kFloat64);
  EXPECT_TRUE(tensor.is_contiguous());
  EXPECT_EQ(tensor.sizes(), stored.sizes);
  return {tensor.data_ptr<double>(), tensor.data_ptr<double>() + tensor.numel()};
}

TEST(ToTorch, ElementsOfAnyStridesComeInRowMajorOrder) {
  using Numbers = std::vector<double>;
  EXPECT_EQ(numbers(view({2, 3}, {3, 1})), (Numbers{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(numbers(view({3, 2}, {1, 3})), (Numbers{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(numbers(view({4}, {5}, /*offset=*/2)), (Numbers{2, 7, 12, 17}));
  EXPECT_EQ(numbers(view({2, 3}, {0, 1})), (Numbers{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(numbers(view({}, {}, /*offset=*/23)), (Numbers{23}));
  EXPECT_EQ(numbers(view({3, 0}, {1, 1})), Numbers());
}

TEST(ToTorch, TheResultLivesLongerThanTheFile) {
  torch::Tensor tensor;
  {
    const PickleValue value = testing::tensor_of<float>(DType::float32, {2}, {1, 2});
    tensor = to_torch(*value.as_tensor(), torch::kFloat32);
  }
  EXPECT_TRUE(torch::equal(tensor, torch::tensor({1.0f, 2.0f})));
}

TEST(ToTorch, EveryDtypeThatPythonWritesConverts) {
  const auto golden = std::filesystem::path(IGPT_GOLDEN) / "checkpoints";
  for (const std::string name : {"dtypes.zip2.pt", "dtypes_untyped.zip2.pt"}) {
    const PickleValue root = formats::read_torch_file(golden / name);
    EXPECT_GE(root.entries().size(), 7u);
    for (const auto& [key, value] : root.entries()) {
      const std::string& dtype = *key.as_string();
      const std::vector<double> expected = dtype == "bool" ? std::vector<double>{0, 1, 1, 1}
                                           : dtype.find("float") != dtype.npos
                                               ? std::vector<double>{0, 1, -1, 0.5, 3, -4, 0.015625, 224}
                                               : std::vector<double>{0, 1, 127, 3};
      EXPECT_EQ(numbers(*value.as_tensor()), expected) << dtype;
    }
  }
}

}  // namespace
}  // namespace igpt
