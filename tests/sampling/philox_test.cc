#include "igpt/sampling/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace igpt::sampling {
namespace {

// The known answers that the authors publish with their implementation (Random123).
TEST(Philox, KnownAnswers) {
  using Words = std::array<uint32_t, 4>;
  constexpr uint32_t ones = 0xFFFFFFFF;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}));
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}));
  EXPECT_EQ(philox4x32({0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0}),
            (Words{0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}));
}

TEST(Philox, UniformNumbersFillTheUnitInterval) {
  constexpr int count = 100000, bins = 20;
  std::array<int, bins> histogram{};
  double sum = 0;
  for (uint64_t position = 0; position < count; ++position) {
    const double u = uniform(/*seed=*/7, /*stream=*/3, position);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    ++histogram[static_cast<size_t>(u * bins)];
  }
  EXPECT_NEAR(sum / count, 0.5, 4 * std::sqrt(1.0 / 12 / count));
  for (const int entries : histogram)
    EXPECT_NEAR(entries, count / bins, 5 * std::sqrt(static_cast<double>(count) / bins));
}

TEST(Philox, EveryArgumentMatters) {
  std::set<double> seen;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, uint64_t{1} << 62})
    for (const uint64_t stream : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, ~uint64_t{0}})
      for (const uint64_t position : {uint64_t{0}, uint64_t{1}, uint64_t{783}, uint64_t{1} << 32})
        seen.insert(uniform(seed, stream, position));
  EXPECT_EQ(seen.size(), 64u);
}

}  // namespace
}  // namespace igpt::sampling
