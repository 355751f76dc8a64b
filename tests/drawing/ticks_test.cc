#include "igpt/drawing/ticks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace igpt::drawing {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

constexpr double kNear = 1e-9;

TEST(Ticks, AreMultiplesOfOneTwoOrFive) {
  EXPECT_THAT(ticks(0, 25000, 6), ElementsAre(0, 5000, 10000, 15000, 20000, 25000));
  EXPECT_THAT(ticks(0.631, 0.772, 8), Pointwise(DoubleNear(kNear), {0.64, 0.66, 0.68, 0.70, 0.72, 0.74, 0.76}));
  EXPECT_THAT(ticks(-3, 3, 7), ElementsAre(-3, -2, -1, 0, 1, 2, 3));
  EXPECT_THAT(ticks(7, 7, 5), ElementsAre(7));
}

TEST(Ticks, AreNeverTooManyNorOutside) {
  for (const double low : {-1e9, -1.0, 0.0, 1e-7, 0.3, 12.0, 1e12})
    for (const double span : {1e-6, 0.07, 1.0, 3.3, 9e5, 1e13})
      for (int64_t most = 1; most <= 12; ++most) {
        const double high = low + span;
        const auto found = ticks(low, high, most);
        EXPECT_LE(std::ssize(found), most);
        if (most >= 4 && span > std::abs(low) * 1e-12) {
          EXPECT_GE(std::ssize(found), most / 4) << low << ' ' << high;
        }
        for (const double tick : found) {
          const double near = span * kNear + std::abs(low) * 1e-15;
          EXPECT_GE(tick, low - near);
          EXPECT_LE(tick, high + near);
        }
      }
}

TEST(LogTicks, ArePowersOfTenAndWhatLiesBetween) {
  EXPECT_THAT(log_ticks(0.009, 3, 9), Pointwise(DoubleNear(kNear), {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0}));
  EXPECT_THAT(log_ticks(0.001, 1000, 8), Pointwise(DoubleNear(kNear), {0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0}));
  EXPECT_THAT(log_ticks(1e-9, 1e9, 5), ElementsAre(DoubleNear(1e-8, 1e-12), DoubleNear(1e-4, 1e-9), DoubleNear(1, 1e-9),
                                                   DoubleNear(1e4, 1e-3), DoubleNear(1e8, 1)));
  EXPECT_THAT(log_ticks(0.61, 0.78, 5), Pointwise(DoubleNear(kNear), {0.65, 0.70, 0.75}));  // too short for powers
}

TEST(Labels, HaveTheDigitsThatTheyNeed) {
  EXPECT_THAT(labels({0.65, 0.7, 0.75}), ElementsAre("0.65", "0.70", "0.75"));
  EXPECT_THAT(labels({0, 5000, 10000}), ElementsAre("0", "5,000", "10,000"));
  EXPECT_THAT(labels({0.01, 0.1, 1, 10, 1000}), ElementsAre("0.01", "0.1", "1", "10", "1,000"));
  EXPECT_THAT(labels({-0.5, 0, 0.5}), ElementsAre("-0.5", "0.0", "0.5"));
  EXPECT_THAT(labels({1e15, 2e15}), ElementsAre("1e+15", "2e+15"));
  EXPECT_THAT(labels({3}), ElementsAre("3"));
  EXPECT_THAT(labels({}), ElementsAre());
}

TEST(WithCommas, StandBetweenThousands) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(with_commas(-123), "-123");
}

}  // namespace
}  // namespace igpt::drawing
