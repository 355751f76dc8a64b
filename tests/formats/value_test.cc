#include "igpt/formats/value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "formats/hostile.h"

namespace igpt::formats {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <class T>
std::vector<std::byte> bytes_of(std::vector<T> values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

Tensor view(std::vector<int64_t> sizes, std::vector<int64_t> strides, int64_t offset = 0, int count = 24) {
  std::vector<int32_t> values;
  for (int i = 0; i < count; ++i) values.push_back(i);
  const Value whole = Value::tensor(DType::int32, {count}, bytes_of(values));
  return {whole.as_tensor()->storage, DType::int32, offset, std::move(sizes), std::move(strides)};
}

TEST(Value, HoldsWhatItWasGiven) {
  EXPECT_TRUE(Value().is_none());
  EXPECT_EQ(Value(true).as_bool(), true);
  EXPECT_EQ(Value(true).as_int(), std::nullopt);
  EXPECT_EQ(Value(7).as_int(), 7);
  EXPECT_EQ(Value(7).as_double(), 7.0);
  EXPECT_EQ(Value(0.5f).as_double(), 0.5);
  EXPECT_EQ(*Value("text").as_string(), "text");
  EXPECT_EQ(Value("text").as_bytes(), nullptr);
  EXPECT_EQ(*Value::bytes("b").as_bytes(), "b");
  EXPECT_THROW(Value(UINT64_MAX), Error);
}

TEST(Value, DictKeepsTheOrderAndReplacesEqualKeys) {
  Value dict = Value::dict({{"b", 1}, {"a", 2}, {3, "three"}, {"b", 4}});
  ASSERT_EQ(dict.entries().size(), 3u);
  EXPECT_EQ(*dict.entries()[0].first.as_string(), "b");
  EXPECT_EQ(dict.find("b")->as_int(), 4);
  EXPECT_EQ(*dict.find(3)->as_string(), "three");
  EXPECT_EQ(dict.find("c"), nullptr);
  EXPECT_EQ(Value(1).find("c"), nullptr);
}

TEST(Value, ContainerInsideAnotherNoLongerChanges) {
  Value inner = Value::list({1}), outer = Value::list();
  inner.push(2);
  outer.push(inner);
  EXPECT_THROW(inner.push(3), Error);
  EXPECT_EQ(inner.items().size(), 2u);
  EXPECT_THROW(outer.push(outer), Error);
  Value dict = Value::dict();
  EXPECT_THROW(dict.insert("self", dict), Error);
}

TEST(Value, NestingIsLimited) {
  Value value = Value::list();
  for (uint32_t depth = 1; depth < Value::max_depth; ++depth) value = Value::list({value});
  EXPECT_THROW(Value::list({value}), Error);
  EXPECT_THROW(Value::tuple({1, value}), Error);
  EXPECT_THROW(Value::dict({{"a", value}}), Error);
}

TEST(Tensor, ElementsOfAnyStridesComeInRowMajorOrder) {
  EXPECT_THAT(to_vector<int64_t>(view({2, 3}, {3, 1})), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(to_vector<int64_t>(view({3, 2}, {1, 3})), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(to_vector<int64_t>(view({4}, {5}, /*offset=*/2)), ElementsAre(2, 7, 12, 17));
  EXPECT_THAT(to_vector<int64_t>(view({2, 3}, {0, 1})), ElementsAre(0, 1, 2, 0, 1, 2));
  EXPECT_THAT(to_vector<int64_t>(view({}, {}, /*offset=*/23)), ElementsAre(23));
  EXPECT_THAT(to_vector<int64_t>(view({3, 0}, {1, 1})), ElementsAre());
  EXPECT_EQ(contiguous_bytes(view({2, 2}, {1, 2})), bytes_of<int32_t>({0, 2, 1, 3}));
}

TEST(Tensor, ContiguousOnesAreSeenInPlace) {
  EXPECT_TRUE(view({2, 3}, {3, 1}).contiguous());
  EXPECT_TRUE(view({1, 3}, {77, 1}).contiguous());
  EXPECT_TRUE(view({0, 3}, {7, 5}).contiguous());
  EXPECT_FALSE(view({3, 2}, {1, 3}).contiguous());
  EXPECT_FALSE(view({3}, {0}).contiguous());
  const Tensor tail = view({2}, {1}, /*offset=*/3);
  EXPECT_EQ(tail.contiguous()->data(), tail.storage->bytes().data() + 3 * sizeof(int32_t));
  EXPECT_EQ(tail.contiguous()->size(), 2 * sizeof(int32_t));
}

struct Fault {
  std::vector<int64_t> sizes, strides;
  int64_t offset;
  const char* message;
};

class TensorFault : public testing::TestWithParam<Fault> {};

TEST_P(TensorFault, IsNamed) {
  const auto& [sizes, strides, offset, message] = GetParam();
  EXPECT_THAT(tensor_fault(view(sizes, strides, offset)).value_or("none"), HasSubstr(message));
  EXPECT_THAT(refusal([&] { Value(view(sizes, strides, offset)); }), HasSubstr(message));
}

constexpr int64_t huge = int64_t{1} << 62;
INSTANTIATE_TEST_SUITE_P(
    Hostile, TensorFault,
    testing::Values(Fault{{25}, {1}, 0, "beyond the end"}, Fault{{24}, {1}, 1, "beyond the end"},
                    Fault{{2}, {24}, 0, "beyond the end"}, Fault{{}, {}, 24, "beyond the end"},
                    Fault{{0}, {1}, 25, "beyond the end"}, Fault{{-1}, {1}, 0, "negative size"},
                    Fault{{2}, {-1}, 1, "negative stride"}, Fault{{1}, {1}, -1, "before its storage"},
                    Fault{{2, 2}, {1}, 0, "strides"}, Fault{{huge, 4}, {0, 0}, 0, "more elements"},
                    Fault{{huge, 4, 0}, {0, 0, 0}, 0, "more elements"}, Fault{{3}, {huge}, huge, "more elements"},
                    Fault{{huge, 3}, {1, huge}, 0, "more elements"}, Fault{{2}, {INT64_MAX}, 1, "more elements"},
                    Fault{{INT64_MIN}, {1}, 0, "negative size"},
                    Fault{std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1), 0, "64 dimensions"}));

TEST(Tensor, EachDtypeConverts) {
  const auto doubles = [](DType dtype, auto values) {
    const auto count = static_cast<int64_t>(values.size());
    return to_vector<double>(*Value::tensor(dtype, {count}, bytes_of(values)).as_tensor());
  };
  using std::vector;
  EXPECT_THAT(doubles(DType::float64, vector{0.1, -2.0}), ElementsAre(0.1, -2.0));
  EXPECT_THAT(doubles(DType::float32, vector{0.5f, -2.0f}), ElementsAre(0.5, -2.0));
  // 1, -2, largest, smallest subnormal, infinity
  EXPECT_THAT(doubles(DType::float16, vector<uint16_t>{0x3c00, 0xc000, 0x7bff, 1, 0x7c00}),
              ElementsAre(1.0, -2.0, 65504.0, std::ldexp(1.0, -24), HUGE_VAL));
  EXPECT_THAT(doubles(DType::bfloat16, vector<uint16_t>{0x3f80, 0xc000, 0x7f7f}),
              ElementsAre(1.0, -2.0, std::bit_cast<float>(0x7f7f0000)));
  EXPECT_THAT(doubles(DType::float8_e4m3fn, vector<uint8_t>{0x38, 0x7e, 0x01}),
              ElementsAre(1.0, 448.0, std::ldexp(1.0, -9)));
  EXPECT_THAT(doubles(DType::float8_e4m3fnuz, vector<uint8_t>{0x40, 0x7f}), ElementsAre(1.0, 240.0));
  EXPECT_THAT(doubles(DType::float8_e5m2, vector<uint8_t>{0x3c, 0x7b, 0xfc}), ElementsAre(1.0, 57344.0, -HUGE_VAL));
  EXPECT_THAT(doubles(DType::float8_e5m2fnuz, vector<uint8_t>{0x40, 0x7f}), ElementsAre(1.0, 57344.0));
  for (const auto dtype : {DType::float8_e4m3fnuz, DType::float8_e5m2fnuz})
    EXPECT_TRUE(std::isnan(doubles(dtype, vector<uint8_t>{0x80})[0]));
  EXPECT_TRUE(std::isnan(doubles(DType::float8_e4m3fn, vector<uint8_t>{0xff})[0]));
  EXPECT_TRUE(std::isnan(doubles(DType::float8_e5m2, vector<uint8_t>{0x7d})[0]));
  EXPECT_TRUE(std::isnan(doubles(DType::float16, vector<uint16_t>{0x7e00})[0]));
  EXPECT_THAT(doubles(DType::int8, vector<int8_t>{-128, 127}), ElementsAre(-128, 127));
  EXPECT_THAT(doubles(DType::uint16, vector<uint16_t>{65535}), ElementsAre(65535));
  EXPECT_THAT(doubles(DType::boolean, vector<uint8_t>{0, 1, 2}), ElementsAre(0, 1, 1));
}

TEST(Tensor, IntegersAreNotMadeOfOtherThings) {
  const auto integers = [](DType dtype, auto values) {
    return to_vector<int64_t>(*Value::tensor(dtype, {1}, bytes_of(values)).as_tensor());
  };
  EXPECT_THAT(integers(DType::uint64, std::vector<uint64_t>{5}), ElementsAre(5));
  EXPECT_THROW(integers(DType::uint64, std::vector<uint64_t>{UINT64_MAX}), InputError);
  EXPECT_THROW(integers(DType::float32, std::vector<float>{1}), InputError);
  EXPECT_THROW(to_vector<double>(*Value::tensor(DType::complex64, {1}, bytes_of<float>({1, 2})).as_tensor()),
               InputError);
}

TEST(Tensor, BytesMustFitTheSizes) {
  EXPECT_THROW(Value::tensor(DType::float32, {2}, bytes_of<float>({1})), InputError);
  EXPECT_THROW(Value::tensor(DType::float32, {1}, bytes_of<float>({1, 2})), InputError);
  EXPECT_THROW(Value::tensor(DType::float32, {huge, 4}, {}), InputError);
  EXPECT_NO_THROW(Value::tensor(DType::float32, {0, 7}, {}));
}

}  // namespace
}  // namespace igpt::formats
