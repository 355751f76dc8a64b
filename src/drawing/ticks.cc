#include "igpt/drawing/ticks.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace igpt::drawing {
namespace {

constexpr double kRounding = 1e-9;  // of a step: numbers that ought to be equal
constexpr int kMostDigits = 12;     // behind the point

// The multiples of `step` from low to high.
std::vector<double> multiples(double low, double high, double step) {
  std::vector<double> result;
  const auto last = static_cast<int64_t>(std::floor(high / step + kRounding));
  for (auto k = static_cast<int64_t>(std::ceil(low / step - kRounding)); k <= last; ++k)
    result.push_back(static_cast<double>(k) * step);
  return result;
}

// The fewest digits behind the point that show the numbers exactly.
int digits_of(const std::vector<double>& numbers) {
  int digits = 0;
  const auto is_cut = [&](double number) {
    const double shifted = number * std::pow(10, digits);
    return std::abs(shifted - std::round(shifted)) > 1e-6;
  };
  while (digits < kMostDigits && std::ranges::any_of(numbers, is_cut)) ++digits;
  return digits;
}

}  // namespace

std::vector<double> ticks(double low, double high, int64_t most) {
  if (!(high > low)) return {low};
  if (most < 1) return {};
  const double least = (high - low) / static_cast<double>(most);
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0, 10.0, 20.0}) {
    const double step = factor * power;
    // So small a step would be lost beside the numbers themselves.
    if (step < std::max(std::abs(low), std::abs(high)) * std::numeric_limits<double>::epsilon() * 8) continue;
    auto result = multiples(low, high, step);
    if (std::ssize(result) <= most) return result;
  }
  return {low};
}

std::vector<double> log_ticks(double low, double high, int64_t most) {
  const auto powers = [&](int64_t every, const std::vector<double>& factors) {
    std::vector<double> result;
    const auto last = static_cast<int64_t>(std::floor(std::log10(high)));
    for (auto exponent = static_cast<int64_t>(std::floor(std::log10(low))); exponent <= last; ++exponent)
      for (const double factor : factors)
        if (const double value = factor * std::pow(10, static_cast<double>(exponent));
            exponent % every == 0 && value >= low * (1 - kRounding) && value <= high * (1 + kRounding))
          result.push_back(value);
    return result;
  };
  if (const auto each = powers(1, {1, 2, 5}); std::ssize(each) <= most)
    return each.size() >= 3 ? each : ticks(low, high, most);
  for (int64_t every = 1;; ++every)
    if (auto result = powers(every, {1}); std::ssize(result) <= most) return result;
}

std::string with_commas(int64_t number) {
  std::string text = std::to_string(number);
  for (auto place = std::ssize(text) - 3; place > (number < 0 ? 1 : 0); place -= 3)
    text.insert(static_cast<size_t>(place), ",");
  return text;
}

std::vector<std::string> labels(const std::vector<double>& ticks) {
  double largest = 0, shortest = std::numeric_limits<double>::infinity(), longest = 0;
  for (size_t i = 0; i < ticks.size(); ++i) {
    largest = std::max(largest, std::abs(ticks[i]));
    if (i == 0) continue;
    shortest = std::min(shortest, ticks[i] - ticks[i - 1]);
    longest = std::max(longest, ticks[i] - ticks[i - 1]);
  }
  if (ticks.size() < 2) shortest = longest = largest;
  constexpr double kLargest = 1e12, kSmallest = 1e-9;
  const bool by_exponent = largest >= kLargest || (shortest > 0 && shortest < kSmallest);
  const bool is_even = longest < 1.5 * shortest;  // otherwise logarithmic: each number has the digits that it needs
  std::vector<std::string> result;
  for (const double tick : ticks) {
    const int digits = digits_of(is_even ? ticks : std::vector{tick});
    char text[64];
    (void)std::snprintf(text, sizeof text, by_exponent ? "%.*g" : "%.*f", by_exponent ? 6 : digits, tick);
    result.push_back(digits == 0 && !by_exponent ? with_commas(std::llround(tick)) : text);
  }
  return result;
}

}  // namespace igpt::drawing
