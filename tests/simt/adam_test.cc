#include "src/ops/cuda/adam.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <ostream>

#include "simt/device_memory.h"
#include "simt/model_reference.h"
#include "src/ops/cuda/ordered_sums.h"

namespace igpt::ops::cuda {
namespace {

using simt::Buffer;
using testing::Doubles;
using testing::drawn;

struct Case {
  const char* name;
  int count;
  double weight_decay = 0, largest_norm = 0, average_decay = 0;
  int steps_before = 0;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name << "_P" << c.count;
}

constexpr double kRates[] = {0.01, 0.02, 0.005, 0.01};

/// Four updates.
struct Adam {
  Case c;
  std::vector<float> weight_values, gradient_values;
  Buffer<float> weights, gradients, exp_avg, exp_avg_sq, average, step, norm;
  Buffer<double> scratch;

  explicit Adam(const Case& of)
      : c(of),
        weight_values(drawn(static_cast<size_t>(c.count), 1)),
        gradient_values(drawn(static_cast<size_t>(c.count), 2, 0.1)),
        weights("weights", weight_values),
        gradients("gradients", gradient_values),
        exp_avg("exp_avg", zeros(c.count)),
        exp_avg_sq("exp_avg_sq", zeros(c.count)),
        average("average", weight_values),
        step("step", std::vector<float>(1, static_cast<float>(of.steps_before))),
        norm("norm", 1),
        scratch("scratch", kAdamScratch) {}

  static std::vector<float> zeros(int count) { return std::vector<float>(static_cast<size_t>(count)); }

  void run() {
    for (const double r : kRates) {
      Buffer<float> rate("rate", std::vector<float>(1, static_cast<float>(r)));
      AdamUpdate update{c.count,        weights.data(), exp_avg.data(), exp_avg_sq.data(), gradients.data(),
                        average.data(), rate.data(),    step.data(),    norm.data(),       scratch.data()};
      update.weight_decay = c.weight_decay;
      update.largest_norm = c.largest_norm;
      update.average_decay = c.average_decay;
      if (c.average_decay == 0) update.average = nullptr;
      ASSERT_STREQ(adam_update(update), nullptr);
      simt::wait_for_device();
    }
  }
};

class CudaAdam : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
    simt::set_order(1);
  }
};

TEST_P(CudaAdam, IsWithinTheLimitOfDoublePrecision) {
  Adam adam(GetParam());
  adam.run();
  const Case& c = adam.c;
  double squares = 0;
  for (const double g : adam.gradient_values) squares += g * g;
  const double norm = std::sqrt(squares);
  const double clip = c.largest_norm > 0 ? std::min(1.0, c.largest_norm / (norm + 1e-6)) : 1;
  Doubles weights(adam.weight_values.begin(), adam.weight_values.end()), average = weights, m(weights.size()),
                                                                         v(weights.size()), moved(weights.size());
  for (int n = 0; n < 4; ++n)
    for (size_t i = 0; i < weights.size(); ++i) {
      const int step = c.steps_before + n + 1;
      const double g = clip * adam.gradient_values[i], rate = static_cast<float>(kRates[n]);
      weights[i] -= rate * c.weight_decay * weights[i];
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      weights[i] -= rate * m[i] / (1 - std::pow(0.9, step)) / (std::sqrt(v[i] / (1 - std::pow(0.999, step))) + 1e-8);
      average[i] += (1 - std::min(c.average_decay, (1.0 + step) / (10.0 + step))) * (weights[i] - average[i]);
    }
  Doubles computed_move(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    moved[i] = weights[i] - adam.weight_values[i];
    computed_move[i] = double{adam.weights.values()[i]} - adam.weight_values[i];
  }
  EXPECT_LT(testing::relative_error(computed_move, moved), 5e-6);
  EXPECT_LT(testing::relative_error(adam.weights.values(), weights), 2e-7);
  EXPECT_LT(testing::relative_error(adam.exp_avg.values(), m), 3e-7);
  EXPECT_LT(testing::relative_error(adam.exp_avg_sq.values(), v), 3e-7);
  if (c.average_decay > 0) {
    EXPECT_LT(testing::relative_error(adam.average.values(), average), 2e-7);
  }
  EXPECT_EQ(adam.step.values()[0], c.steps_before + 4);
  EXPECT_NEAR(adam.norm.values()[0], norm, 1e-6 * norm);
}

TEST_P(CudaAdam, IsTheSameBitsInAnotherOrder) {
  Adam adam(GetParam()), other(GetParam());
  adam.run();
  simt::set_order(2);
  other.run();
  EXPECT_EQ(adam.weights.values(), other.weights.values());
  EXPECT_EQ(adam.norm.values(), other.norm.values());
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaAdam,
                         ::testing::Values(Case{"plain", 1}, Case{"plain", 255}, Case{"plain", 256}, Case{"plain", 257},
                                           Case{"plain", 256 * 256 + 5}, Case{"decay", 300, 0.1},
                                           Case{"clipped", 300, 0, 0.5}, Case{"within", 300, 0, 1e6},
                                           Case{"averaged", 300, 0, 0, 0.2}, Case{"later", 300, 0, 0, 0.9, 20},
                                           Case{"all", 300, 0.05, 1, 0.999}),
                         ::testing::PrintToStringParamName());

TEST(CudaAdamUpdate, ANormThatIsNotFiniteIsSeen) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  Adam adam({"clipped", 4, 0, 1});
  adam.gradient_values[2] = std::numeric_limits<float>::quiet_NaN();
  Buffer<float> gradients("gradients", adam.gradient_values);
  Buffer<float> rate("rate", std::vector<float>(1, 0.01f));
  AdamUpdate update{4,       adam.weights.data(), adam.exp_avg.data(), adam.exp_avg_sq.data(), gradients.data(),
                    nullptr, rate.data(),         adam.step.data(),    adam.norm.data(),       adam.scratch.data()};
  update.largest_norm = 1;
  ASSERT_STREQ(adam_update(update), nullptr);
  simt::wait_for_device();
  EXPECT_TRUE(std::isnan(adam.norm.values()[0]));
  EXPECT_TRUE(std::isnan(adam.weights.values()[0]));
}

TEST(CudaSums, AreAddedToWhatIsThereWhereAsked) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  const auto from = drawn(3 * 11 * 40, 1), first = drawn(2 * 50, 2);  // 3 groups of 11 parts of 40, 33 of which count
  Buffer<float> parts("parts", from), to("to", std::vector<float>(3 * 50, 1.0f)), other("other", first), sum("sum", 50);
  const OrderedSum large{parts.data(), to.data(), 3, 11, 33, 11 * 40, 40, 50};
  OrderedSum more = large;
  more.add = true;
  const OrderedSum small{other.data(), sum.data(), 1, 2, 50, 0, 50, 0};
  ASSERT_STREQ(add_parts({large, {}, small}), nullptr);
  ASSERT_STREQ(add_parts({more}), nullptr);
  simt::wait_for_device();
  for (int group = 0; group < 3; ++group)
    for (int i = 0; i < 50; ++i) {
      double expected = 0;
      for (int part = 0; part < 11; ++part) expected += 2 * from[(group * 11 + part) * 40 + i % 40];
      EXPECT_NEAR(to.values()[group * 50 + i], i < 33 ? expected : 1.0, 1e-5) << group << " " << i;
    }
  for (int i = 0; i < 50; ++i) EXPECT_NEAR(sum.values()[i], double{first[i]} + first[50 + i], 1e-6);
  const OrderedSum one{other.data(), sum.data(), 1, 1, 1, 0, 0, 0};
  EXPECT_THAT(add_parts({one, one, one, one, one, one, one}), ::testing::HasSubstr("too many"));
}

TEST(CudaSums, TotalsAreOfDoublePrecision) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  for (const int count : {1, 31, 256, 257, 1000}) {
    const auto values = drawn(static_cast<size_t>(2 * count), 1, 1, 100);
    Buffer<float> from("from", values);
    Buffer<double> to("to", 2);
    ASSERT_STREQ(totals(from.data(), 2, count, 0.5, to.data()), nullptr);
    simt::wait_for_device();
    for (int group = 0; group < 2; ++group) {
      double expected = 0;
      for (int i = 0; i < count; ++i) expected += 0.5 * values[group * count + i];
      EXPECT_NEAR(to.values()[group], expected, 1e-9 * expected) << count;
    }
  }
}

}  // namespace
}  // namespace igpt::ops::cuda
