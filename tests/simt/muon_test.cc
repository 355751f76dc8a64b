#include "src/ops/cuda/muon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <ostream>

#include "muon_reference.h"
#include "simt/device_memory.h"
#include "simt/model_reference.h"

namespace igpt::ops::cuda {
namespace {

using igpt::testing::MuonReference;
using simt::Buffer;
using testing::Doubles;

struct Case {
  const char* name;
  int embed;
  double weight_decay = 0, largest_norm = 0, average_decay = 0;
  int neighbours = 0;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name << "_D" << c.embed;
}

constexpr int kSteps = 2;
constexpr float kRates[kSteps] = {0.02f, 0.01f}, kMomenta[kSteps] = {0.85f, 0.95f};

/// Updates of a small model, by Muon and Adam or by Adam alone.
struct Updates {
  Case c;
  int layers = c.embed > 32 ? 1 : 2;
  ModelShape shape = c.neighbours > 0 ? testing::plane_shape(3, c.embed, 1, layers, 4, c.neighbours)
                                      : testing::raster_shape(3, c.embed, 1, layers, 4);
  ParameterTable table{shape};
  size_t count = static_cast<size_t>(table.count);
  std::vector<float> start = testing::drawn_weights(shape, 1);
  Buffer<float> weights{"weights", start}, exp_avg{"exp_avg", std::vector<float>(count)},
      exp_avg_sq{"exp_avg_sq", std::vector<float>(count)}, average{"average", start},
      step{"step", std::vector<float>(1)}, norm{"norm", 1};
  Buffer<double> scratch{"scratch", kAdamScratch};

  std::vector<float> gradient_values(int n) const {
    return testing::drawn(count, static_cast<unsigned>(2 + n), /*sigma=*/0.1);
  }

  void update(const std::vector<float>& gradient_values, int n, bool with_muon) {
    Buffer<float> gradients("gradients", gradient_values), rate("rate", std::vector<float>{kRates[n]}),
        momentum("momentum", std::vector<float>{kMomenta[n]});
    AdamUpdate adam{table.count,    weights.data(), exp_avg.data(), exp_avg_sq.data(), gradients.data(),
                    average.data(), rate.data(),    step.data(),    norm.data(),       scratch.data()};
    adam.weight_decay = c.weight_decay;
    adam.largest_norm = c.largest_norm;
    adam.average_decay = c.average_decay;
    if (c.average_decay == 0) adam.average = nullptr;
    if (with_muon) adam.of_muon = BlockMatrices(table);
    ASSERT_STREQ(adam_update(adam), nullptr);
    if (with_muon) {
      ASSERT_STREQ(muon_update({adam, momentum.data()}), nullptr);
    }
    simt::wait_for_device();
  }
  void run(bool with_muon) {
    for (int n = 0; n < kSteps; ++n) update(gradient_values(n), n, with_muon);
  }

  template <class Values>
  static auto part(const Values& values, const Matrix& matrix) {
    const auto first = values.begin() + matrix.offset;
    return Values(first, first + matrix.count());
  }
};

class CudaMuon : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto cause = simt::why_not_here(muon_shared_bytes(GetParam().embed)); !cause.empty())
      GTEST_SKIP() << cause;
    simt::set_order(1);
  }
};

TEST_P(CudaMuon, MatricesAreWithinTheLimitOfDoublePrecision) {
  Updates updates{GetParam()};
  updates.run(/*with_muon=*/true);
  if (HasFatalFailure()) return;
  const Case& c = updates.c;
  std::vector<double> clips;
  for (int n = 0; n < kSteps; ++n) {
    double squares = 0;
    for (const double g : updates.gradient_values(n)) squares += g * g;
    clips.push_back(c.largest_norm > 0 ? std::min(1.0, c.largest_norm / (std::sqrt(squares) + 1e-6)) : 1);
  }
  double largest = 0, largest_average = 0, largest_momentum = 0;
  for (const Matrix& matrix : updates.table.matrices) {
    const auto start = updates.part(updates.start, matrix);
    Doubles average(start.begin(), start.end()), moved(start.size()), expected_move(start.size());
    MuonReference muon{static_cast<size_t>(matrix.rows), static_cast<size_t>(matrix.columns), average};
    for (int n = 0; n < kSteps; ++n) {
      auto gradient = updates.part(updates.gradient_values(n), matrix);
      Doubles clipped(gradient.begin(), gradient.end());
      for (double& g : clipped) g *= clips[static_cast<size_t>(n)];
      muon.step(clipped, kRates[n], kMomenta[n], c.weight_decay);
      const double kept = std::min(c.average_decay, (2.0 + n) / (11.0 + n));
      for (size_t i = 0; i < average.size(); ++i) average[i] += (1 - kept) * (muon.weights[i] - average[i]);
    }
    const auto weights = updates.part(updates.weights.values(), matrix);
    for (size_t i = 0; i < start.size(); ++i) {
      moved[i] = double{weights[i]} - start[i];
      expected_move[i] = muon.weights[i] - start[i];
    }
    largest = std::max(largest, testing::relative_error(moved, expected_move));
    largest_momentum = std::max(largest_momentum,
                                testing::relative_error(updates.part(updates.exp_avg.values(), matrix), muon.momentum));
    if (c.average_decay > 0)
      largest_average =
          std::max(largest_average, testing::relative_error(updates.part(updates.average.values(), matrix), average));
  }
  EXPECT_LT(largest, 6e-6);
  EXPECT_LT(largest_momentum, 2e-7);
  EXPECT_LT(largest_average, 2e-7);
}

TEST_P(CudaMuon, EverythingElseIsAdamsBitForBit) {
  Updates updates{GetParam()}, of_adam{GetParam()};
  updates.run(/*with_muon=*/true);
  of_adam.run(/*with_muon=*/false);
  const auto weights = updates.weights.values(), exp_avg = updates.exp_avg.values(),
             exp_avg_sq = updates.exp_avg_sq.values(), average = updates.average.values();
  auto matrix = updates.table.matrices.begin();
  size_t others = 0;
  for (size_t i = 0; i < updates.count; ++i) {
    const auto place = static_cast<int64_t>(i);
    if (matrix != updates.table.matrices.end() && place == matrix->offset + matrix->count()) ++matrix;
    if (matrix != updates.table.matrices.end() && place >= matrix->offset) {
      others += exp_avg_sq[i] != 0;
    } else {
      others += weights[i] != of_adam.weights.values()[i] || exp_avg[i] != of_adam.exp_avg.values()[i] ||
                exp_avg_sq[i] != of_adam.exp_avg_sq.values()[i] || average[i] != of_adam.average.values()[i];
    }
  }
  EXPECT_EQ(others, 0u);
}

TEST_P(CudaMuon, IsTheSameBitsInAnotherOrder) {
  Updates updates{GetParam()}, other{GetParam()};
  updates.run(/*with_muon=*/true);
  simt::set_order(2);
  other.run(/*with_muon=*/true);
  EXPECT_EQ(updates.weights.values(), other.weights.values());
  EXPECT_EQ(updates.exp_avg.values(), other.exp_avg.values());
  EXPECT_EQ(updates.average.values(), other.average.values());
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaMuon,
                         ::testing::Values(Case{"plain", 16}, Case{"decay", 16, 0.5}, Case{"clipped", 16, 0, 0.5},
                                           Case{"within", 16, 0, 1e6}, Case{"averaged", 16, 0, 0, 0.2},
                                           Case{"plane", 16, 0.5, 0.5, 0.9, 5}, Case{"all", 8, 0.5, 1, 0.9},
                                           Case{"all", 24, 0.5, 1, 0.9}, Case{"all", 32, 0.5, 1, 0.9},
                                           Case{"all", 40, 0.5, 1, 0.9}, Case{"all", 48, 0.5, 1, 0.9},
                                           Case{"all", 56, 0.5, 1, 0.9}, Case{"all", 64, 0.5, 1, 0.9}),
                         ::testing::PrintToStringParamName());

TEST(CudaMuonUpdate, AGradientThatIsNotFiniteIsSeen) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  Updates updates{{"plain", 8}};
  auto gradients = updates.gradient_values(0);
  gradients[static_cast<size_t>(updates.table.matrices[1].offset)] = std::numeric_limits<float>::quiet_NaN();
  updates.update(gradients, 0, /*with_muon=*/true);
  for (const float weight : updates.part(updates.weights.values(), updates.table.matrices[1]))
    EXPECT_TRUE(std::isnan(weight));
  for (const float weight : updates.part(updates.weights.values(), updates.table.matrices[2]))
    EXPECT_FALSE(std::isnan(weight));
}

TEST(CudaMuonUpdate, GradientsOfZerosChangeNothing) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  Updates updates{{"plain", 16}};
  updates.update(std::vector<float>(updates.count), 0, /*with_muon=*/true);
  EXPECT_EQ(updates.weights.values(), updates.start);
}

TEST(CudaMuonUpdate, OfSizesWithoutKernelsIsRefusedInWords) {
  EXPECT_THAT(muon_update({}), ::testing::HasSubstr("no kernel"));
}

}  // namespace
}  // namespace igpt::ops::cuda
