#include "igpt/formats/pickle_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/hostile.h"
#include "tensor_values.h"

namespace igpt::formats {
namespace {

using igpt::testing::tensor_of;
using ::testing::HasSubstr;

StoredTensor view(std::vector<int64_t> sizes, std::vector<int64_t> strides, int64_t offset = 0) {
  const PickleValue whole = tensor_of(DType::int32, {24}, std::vector<int32_t>(24));
  return {whole.as_tensor()->storage, DType::int32, offset, std::move(sizes), std::move(strides)};
}

TEST(PickleValue, HoldsWhatItWasGiven) {
  EXPECT_TRUE(PickleValue().is_none());
  EXPECT_EQ(PickleValue(true).as_bool(), true);
  EXPECT_EQ(PickleValue(true).as_int(), std::nullopt);
  EXPECT_EQ(PickleValue(7).as_int(), 7);
  EXPECT_EQ(PickleValue(7).as_double(), 7.0);
  EXPECT_EQ(PickleValue(0.5f).as_double(), 0.5);
  EXPECT_EQ(*PickleValue("text").as_string(), "text");
  EXPECT_EQ(PickleValue("text").as_bytes(), nullptr);
  EXPECT_EQ(*PickleValue::bytes("b").as_bytes(), "b");
  EXPECT_THROW(PickleValue(UINT64_MAX), Error);
}

TEST(PickleValue, DictKeepsTheOrderAndReplacesEqualKeys) {
  PickleValue dict = PickleValue::dict({{"b", 1}, {"a", 2}, {3, "three"}, {"b", 4}});
  ASSERT_EQ(dict.entries().size(), 3u);
  EXPECT_EQ(*dict.entries()[0].first.as_string(), "b");
  EXPECT_EQ(dict.find("b")->as_int(), 4);
  EXPECT_EQ(*dict.find(3)->as_string(), "three");
  EXPECT_EQ(dict.find("c"), nullptr);
  EXPECT_EQ(PickleValue(1).find("c"), nullptr);
}

TEST(PickleValue, ContainerInsideAnotherNoLongerChanges) {
  PickleValue inner = PickleValue::list({1}), outer = PickleValue::list();
  inner.push(2);
  outer.push(inner);
  EXPECT_THROW(inner.push(3), Error);
  EXPECT_EQ(inner.items().size(), 2u);
  EXPECT_THROW(outer.push(outer), Error);
  PickleValue dict = PickleValue::dict();
  EXPECT_THROW(dict.insert("self", dict), Error);
}

TEST(PickleValue, NestingIsLimited) {
  PickleValue value = PickleValue::list();
  for (uint32_t depth = 1; depth < PickleValue::max_depth; ++depth) value = PickleValue::list({value});
  EXPECT_THROW(PickleValue::list({value}), Error);
  EXPECT_THROW(PickleValue::tuple({1, value}), Error);
  EXPECT_THROW(PickleValue::dict({{"a", value}}), Error);
}

struct Fault {
  std::vector<int64_t> sizes, strides;
  int64_t offset;
  const char* message;
};

class TensorFault : public ::testing::TestWithParam<Fault> {};

TEST_P(TensorFault, IsNamed) {
  const auto& [sizes, strides, offset, message] = GetParam();
  EXPECT_THAT(tensor_fault(view(sizes, strides, offset)).value_or("none"), HasSubstr(message));
  EXPECT_THAT(refusal([&] { PickleValue(view(sizes, strides, offset)); }), HasSubstr(message));
}

constexpr int64_t huge = int64_t{1} << 62;
INSTANTIATE_TEST_SUITE_P(
    Hostile, TensorFault,
    ::testing::Values(Fault{{25}, {1}, 0, "beyond the end"}, Fault{{24}, {1}, 1, "beyond the end"},
                      Fault{{2}, {24}, 0, "beyond the end"}, Fault{{}, {}, 24, "beyond the end"},
                      Fault{{0}, {1}, 25, "beyond the end"}, Fault{{-1}, {1}, 0, "negative size"},
                      Fault{{2}, {-1}, 1, "negative stride"}, Fault{{1}, {1}, -1, "before its storage"},
                      Fault{{2, 2}, {1}, 0, "strides"}, Fault{{huge, 4}, {0, 0}, 0, "more elements"},
                      Fault{{huge, 4, 0}, {0, 0, 0}, 0, "more elements"}, Fault{{3}, {huge}, huge, "more elements"},
                      Fault{{huge, 3}, {1, huge}, 0, "more elements"}, Fault{{2}, {INT64_MAX}, 1, "more elements"},
                      Fault{{INT64_MIN}, {1}, 0, "negative size"},
                      Fault{std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1), 0, "64 dimensions"}));

TEST(StoredTensor, BytesMustFitTheSizes) {
  EXPECT_THROW(tensor_of<float>(DType::float32, {2}, {1}), InputError);
  EXPECT_THROW(tensor_of<float>(DType::float32, {1}, {1, 2}), InputError);
  EXPECT_THROW(tensor_of<float>(DType::float32, {huge, 4}, {}), InputError);
  EXPECT_NO_THROW(tensor_of<float>(DType::float32, {0, 7}, {}));
}

}  // namespace
}  // namespace igpt::formats
