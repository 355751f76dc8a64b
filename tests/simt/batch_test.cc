#include "src/ops/cuda/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>

#include "igpt/sampling/philox.h"
#include "simt/device_memory.h"
#include "simt/model_reference.h"

namespace igpt::ops::cuda {
namespace {

using simt::Buffer;

constexpr int64_t kImages = 7, kUpdates = 3;

struct Case {
  const char* name;
  int64_t length, size, batches = 1;
  BatchAugmentation augmentation{};
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

/// Numbers that differ from each other.
template <class T>
std::vector<T> numbers(int64_t count, int64_t factor, int64_t below) {
  std::vector<T> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<T>((i * factor + 3) % below));
  return values;
}

class CudaBatch : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
    simt::set_order(1);
  }
};

TEST_P(CudaBatch, IsOfTheImagesThatThePlanNames) {
  const Case& c = GetParam();
  const int64_t stride = c.size + 2, first_place = (int64_t{1} << 33) + 5;  // images of a batch that others have
  const auto data = numbers<uint8_t>(kImages * c.length, 37, 251);
  const auto of_data = numbers<int64_t>(kImages, 5, 97);
  const auto chosen = numbers<int64_t>(kUpdates * c.batches * c.size, 5, kImages);
  int side = 1;
  while (side * side < c.length) ++side;
  const bool labelled = c.size % 2 == 1;
  Buffer<uint8_t> images("images", data);
  Buffer<int64_t> labels_of_images("labels of images", of_data), plan("plan", chosen),
      next("next", std::vector<int64_t>{1, first_place});
  Buffer<float> rates("rates", std::vector<float>{0.1f, 0.2f, 0.3f});
  for (int64_t batch = 0; batch < c.batches; ++batch) {
    Buffer<uint8_t> tokens("tokens", static_cast<size_t>(c.size * c.length));
    Buffer<int64_t> labels("labels", static_cast<size_t>(c.size));
    BatchGather gather{{kImages, c.length, images.data(), labels_of_images.data()},
                       {kUpdates, plan.data(), rates.data(), next.data()},
                       c.augmentation,
                       c.size,
                       batch,
                       c.batches,
                       stride,
                       tokens.data(),
                       labelled ? labels.data() : nullptr};
    ASSERT_STREQ(gather_batch(gather), nullptr);
    simt::wait_for_device();
    const auto gathered = tokens.values();
    for (int64_t b = 0; b < c.size; ++b) {
      const int64_t image = chosen[static_cast<size_t>((c.batches + batch) * c.size + b)];
      const auto draw = [&](uint64_t which) {
        const auto place = static_cast<uint64_t>(first_place + batch * stride + b);
        return sampling::uniform(c.augmentation.seed, place, which);
      };
      const auto shift = [&](uint64_t which) {
        return static_cast<int>(draw(which) * static_cast<double>(2 * c.augmentation.shift + 1)) -
               static_cast<int>(c.augmentation.shift);
      };
      const int down = shift(0), right = shift(1);
      const bool flip = c.augmentation.flip && draw(2) < 0.5;
      for (int at = 0; at < c.length; ++at) {
        const auto within = [&](int x) {
          return c.augmentation.reflect ? std::abs(side - 1 - std::abs(side - 1 - x)) : std::clamp(x, 0, side - 1);
        };
        const int row = within(at / side - down), column = within(at % side - right);
        const int from = c.augmentation.any() ? row * side + (flip ? side - 1 - column : column) : at;
        ASSERT_EQ(gathered[static_cast<size_t>(b * c.length + at)], data[static_cast<size_t>(image * c.length + from)])
            << "image " << b << " pixel " << at;
      }
      if (labelled) {
        EXPECT_EQ(labels.values()[static_cast<size_t>(b)], of_data[static_cast<size_t>(image)]);
      }
    }
    if (!labelled) {
      EXPECT_EQ(labels.unwritten(), static_cast<size_t>(c.size));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, CudaBatch,
    ::testing::Values(Case{"Plain", 25, 3}, Case{"WithoutLabels", 9, 4, 2}, Case{"LongerThanABlock", 289, 3, 2},
                      Case{"Shifted", 25, 21, 1, {2, false, false, 9}}, Case{"Flipped", 16, 9, 3, {0, true, false, 10}},
                      Case{"ShiftedAndFlipped", 36, 41, 2, {3, true, false, (uint64_t{1} << 40) + 1}},
                      Case{"Mirrored", 25, 21, 1, {4, true, true, 9}}, Case{"NotSquare", 12, 3}),
    ::testing::PrintToStringParamName());

TEST(CudaUpdateCounters, BeginAndEndAnUpdate) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  for (const int64_t count : {1, 255, 256, 257, 1000}) {
    Buffer<float> rates("rates", std::vector<float>{0.1f, 0.2f, 0.3f}), rate("rate", 1),
        momenta("momenta", std::vector<float>{0.85f, 0.9f, 0.95f}), momentum("momentum", 1),
        gradients("gradients", std::vector<float>(static_cast<size_t>(count), 7.0f));
    Buffer<int64_t> next("next", std::vector<int64_t>{1, 40});
    Buffer<double> loss("loss", std::vector<double>{9}), sum("sum", std::vector<double>{100}),
        of_batch("loss of a batch", std::vector<double>{3});
    const UpdatePlan plan{3, nullptr, rates.data(), next.data(), momenta.data()};
    for (const float expected : {0.2f, 0.3f}) {
      ASSERT_STREQ(start_update({plan, count, gradients.data(), rate.data(), loss.data(), momentum.data()}), nullptr);
      simt::wait_for_device();
      EXPECT_THAT(gradients.values(), ::testing::Each(0.0f));
      EXPECT_EQ(rate.values()[0], expected);
      EXPECT_EQ(momentum.values()[0], expected == 0.2f ? 0.9f : 0.95f);
      EXPECT_EQ(loss.values()[0], 0.0);
      ASSERT_STREQ(add_scaled(of_batch.data(), 0.5, loss.data()), nullptr);
      ASSERT_STREQ(add_scaled(of_batch.data(), 0.25, loss.data()), nullptr);
      ASSERT_STREQ(end_update({plan, 12, loss.data(), sum.data()}), nullptr);
      simt::wait_for_device();
      EXPECT_EQ(loss.values()[0], 2.25);
    }
    ASSERT_STREQ(end_update({plan, 12, loss.data()}), nullptr);
    simt::wait_for_device();
    EXPECT_THAT(next.values(), ::testing::ElementsAre(4, 76));
    EXPECT_EQ(sum.values()[0], 104.5);
  }
}

TEST(CudaBatchArguments, WhatCannotBeDoneIsRefusedInWords) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  EXPECT_THAT(gather_batch({{1, 12}, {}, {1, false, 0}, 1}), ::testing::HasSubstr("square"));
  EXPECT_THAT(start_update({}), ::testing::HasSubstr("no parameters"));
}

}  // namespace
}  // namespace igpt::ops::cuda
