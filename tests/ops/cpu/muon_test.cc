#include "src/ops/cpu/muon.h"

#include <gtest/gtest.h>

#include <hwy/targets.h>
#include <random>
#include <tuple>

#include "muon_reference.h"
#include "src/ops/cpu/aligned_buffer.h"

namespace igpt::ops::cpu {
namespace {

using testing::MuonReference;
using Shape = std::pair<int64_t, int64_t>;

constexpr MuonRates kRates{.learning_rate = 0.02, .momentum = 0.9, .weight_decay = 0.5};

std::vector<float> random_numbers(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<size_t>(count));
  for (float& number : numbers) number = normal(random);
  return numbers;
}

// What three updates make of weights and momentum; the scratch is full of rubbish.
struct Updated {
  std::vector<float> weights, momentum;

  explicit Updated(Shape shape, const MuonRates& rates = kRates)
      : weights(random_numbers(shape.first * shape.second, 1)), momentum(weights.size()) {
    const auto [rows, columns] = shape;
    const AlignedBuffer scratch(muon_scratch(rows, columns));
    std::fill_n(scratch.data(), scratch.size(), NAN);
    for (unsigned step = 0; step < 3; ++step)
      muon_kernel()(rows, columns, rates, random_numbers(rows * columns, 2 + step).data(), momentum.data(),
                    weights.data(), scratch.data());
  }
};

double largest_difference(const std::vector<float>& actual, const std::vector<double>& expected) {
  double largest = 0;
  for (size_t i = 0; i < actual.size(); ++i)
    if (!(std::abs(actual[i] - expected[i]) <= largest)) largest = std::abs(actual[i] - expected[i]);
  return largest;
}

std::vector<int64_t> all_targets() {
  hwy::SetSupportedTargetsForTest(0);
  return hwy::SupportedAndGeneratedTargets();
}

class MuonKernelParity : public ::testing::TestWithParam<std::tuple<int64_t, Shape>> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(std::get<0>(GetParam())); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(MuonKernelParity, ThreeUpdatesEqualTheReference) {
  const auto shape = std::get<1>(GetParam());
  const auto [rows, columns] = shape;
  const auto start = random_numbers(rows * columns, 1);
  MuonReference reference{static_cast<size_t>(rows), static_cast<size_t>(columns), {start.begin(), start.end()}};
  for (unsigned step = 0; step < 3; ++step)
    reference.step(random_numbers(rows * columns, 2 + step), kRates.learning_rate, kRates.momentum,
                   kRates.weight_decay);
  const Updated updated(shape);
  // An update changes a weight by about 0.2 learning rates, 4e-3.
  EXPECT_LT(largest_difference(updated.weights, reference.weights), 2e-6);
  EXPECT_LT(largest_difference(updated.momentum, reference.momentum), 1e-6);
}

std::string name_of(const ::testing::TestParamInfo<MuonKernelParity::ParamType>& test) {
  const auto [target, shape] = test.param;
  return std::string(hwy::TargetName(target)) + "_" + std::to_string(shape.first) + "x" + std::to_string(shape.second);
}

INSTANTIATE_TEST_SUITE_P(Shapes, MuonKernelParity,
                         ::testing::Combine(::testing::ValuesIn(all_targets()),
                                            ::testing::Values(Shape{16, 16}, Shape{64, 16}, Shape{16, 64},
                                                              Shape{24, 24}, Shape{96, 24}, Shape{7, 5}, Shape{1, 1},
                                                              Shape{128, 512})),
                         name_of);

TEST(MuonKernels, WidthOfVectorsWithFusedMultiplyAddsChangesNoBit) {
  for (const Shape& shape : {Shape{64, 16}, Shape{7, 5}, Shape{24, 96}}) {
    std::vector<Updated> updated;
    for (const int64_t target : {int64_t{HWY_AVX3}, int64_t{HWY_AVX2}}) {
      const auto targets = all_targets();
      if (std::find(targets.begin(), targets.end(), target) == targets.end()) GTEST_SKIP() << "needs AVX-512";
      hwy::SetSupportedTargetsForTest(target);
      updated.emplace_back(shape);
      hwy::SetSupportedTargetsForTest(0);
    }
    EXPECT_EQ(updated[0].weights, updated[1].weights);
    EXPECT_EQ(updated[0].momentum, updated[1].momentum);
  }
}

TEST(MuonKernels, GradientOfZerosChangesNothing) {
  const auto start = random_numbers(16 * 64, 1);
  auto weights = start;
  std::vector<float> momentum(weights.size());
  const std::vector<float> zeros(weights.size());
  const AlignedBuffer scratch(muon_scratch(16, 64));
  muon_kernel()(16, 64, kRates, zeros.data(), momentum.data(), weights.data(), scratch.data());
  EXPECT_EQ(weights, start);
  EXPECT_EQ(momentum, zeros);
}

}  // namespace
}  // namespace igpt::ops::cpu
