#include "igpt/data/shuffle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace igpt::data {
namespace {

TEST(ShuffledIndices, ArePermutationsFixedBySeedAndStream) {
  const auto a = shuffled_indices(1000, 1, 0);
  auto sorted = a;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> all(1000);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(sorted, all);
  EXPECT_EQ(a, shuffled_indices(1000, 1, 0));
  EXPECT_NE(a, shuffled_indices(1000, 1, 1));
  EXPECT_NE(a, shuffled_indices(1000, 2, 0));
  EXPECT_NE(a, shuffled_indices(1000, 1 + (int64_t{1} << 32), 0));
}

}  // namespace
}  // namespace igpt::data
