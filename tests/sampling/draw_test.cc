#include "igpt/sampling/draw.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "igpt/error.h"

namespace igpt::sampling {
namespace {

using ::testing::ElementsAre;

// The share of [0, 1) that leads to each token, by bisection of its borders in a fine grid.
std::vector<double> shares(const std::vector<float>& logits, const ops::SamplingOptions& options) {
  constexpr int grid = 200000;
  std::vector<double> share(logits.size());
  for (int i = 0; i < grid; ++i) share[static_cast<size_t>(draw(logits, options, (i + 0.5) / grid))] += 1.0 / grid;
  return share;
}

std::vector<double> softmax(std::vector<double> values) {
  double total = 0;
  for (double& value : values) total += value = std::exp(value);
  for (double& value : values) value /= total;
  return values;
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 2e-5) << "token " << i;
}

const std::vector<float> logits{0.5f, -1.0f, 2.0f, 1.0f, -3.0f};

TEST(Draw, FollowsTheSoftmax) {
  expect_near(shares(logits, {}), softmax({0.5, -1, 2, 1, -3}));
}

TEST(Draw, TemperatureDividesTheLogits) {
  ops::SamplingOptions options;
  options.temperature = 0.5;
  expect_near(shares(logits, options), softmax({1, -2, 4, 2, -6}));
  options.temperature = 1e-300;
  expect_near(shares(logits, options), {0, 0, 1, 0, 0});
  options.temperature = 1e300;
  expect_near(shares(logits, options), {0.2, 0.2, 0.2, 0.2, 0.2});
}

TEST(Draw, TopKKeepsTheLikeliest) {
  constexpr double none = -std::numeric_limits<double>::infinity();
  ops::SamplingOptions options;
  options.top_k = 2;
  expect_near(shares(logits, options), softmax({none, none, 2, 1, none}));
  options.top_k = 100;
  expect_near(shares(logits, options), softmax({0.5, -1, 2, 1, -3}));
}

TEST(Draw, TopKOfOneIsGreedyAndTakesTheLowestOfEquals) {
  ops::SamplingOptions options;
  options.top_k = 1;
  for (const double u : {0.0, 0.5, 0.999999}) {
    EXPECT_EQ(draw(logits, options, u), 2);
    EXPECT_EQ(draw(std::vector<float>{1, 3, 3, 3}, options, u), 1);
  }
}

TEST(Draw, TopPKeepsTheFewestTokensThatReachIt) {
  const std::vector<float> probabilities{std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  ops::SamplingOptions options;
  options.top_p = 0.65;  // 0.4 + 0.3
  expect_near(shares(probabilities, options), {0, 4.0 / 7, 0, 3.0 / 7});
  options.top_p = 0.75;  // 0.4 + 0.3 + 0.2
  expect_near(shares(probabilities, options), {0, 4.0 / 9, 2.0 / 9, 3.0 / 9});
  options.top_p = 1e-9;
  expect_near(shares(probabilities, options), {0, 1, 0, 0});
  options.top_p = 0.5;
  options.top_k = 2;  // 4/7 of what is left reaches 0.5
  expect_near(shares(probabilities, options), {0, 1, 0, 0});
}

TEST(Draw, GoesThroughTheTokensInAscendingOrder) {
  int64_t last = 0;
  for (int i = 0; i < 1000; ++i) {
    const int64_t token = draw(logits, {}, i / 1000.0);
    EXPECT_GE(token, last);
    last = token;
  }
  EXPECT_EQ(last, 4);
}

TEST(Draw, LogitsMustBeFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()})
    EXPECT_THROW(draw(std::vector<float>{0, bad, 1}, {}, 0.5), InputError);
  EXPECT_EQ(draw(std::vector<float>{-3e38f, 3e38f}, {}, 0.999), 1);
}

TEST(Draw, ImpossibleOptionsAreNamed) {
  const auto complaint = [](double temperature, int64_t top_k, double top_p) -> std::string {
    try {
      check(ops::SamplingOptions{temperature, top_k, top_p, 0});
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(complaint(1, 0, 1), "");
  EXPECT_THAT(complaint(0, 0, 1), ::testing::StartsWith("--temperature"));
  EXPECT_THAT(complaint(std::nan(""), 0, 1), ::testing::StartsWith("--temperature"));
  EXPECT_THAT(complaint(1, -1, 1), ::testing::StartsWith("--top_k -1"));
  EXPECT_THAT(complaint(1, 0, 0), ::testing::StartsWith("--top_p"));
  EXPECT_THAT(complaint(1, 0, 1.5), ::testing::StartsWith("--top_p"));
}

}  // namespace
}  // namespace igpt::sampling
