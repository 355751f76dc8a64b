#include "igpt/data/shuffle.h"

#include <numeric>
#include <random>
#include <utility>

namespace igpt::data {
namespace {

// Uniform in [0, bound) without bias: draws from the largest multiple of `bound` upwards are rejected.
uint64_t draw_below(std::mt19937_64& generator, uint64_t bound) {
  const uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  uint64_t value = generator();
  while (value >= limit) value = generator();
  return value % bound;
}

}  // namespace

std::vector<int64_t> shuffled_indices(int64_t size, int64_t seed, int64_t stream) {
  std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(static_cast<uint64_t>(seed) >> 32),
                         static_cast<uint32_t>(stream), static_cast<uint32_t>(static_cast<uint64_t>(stream) >> 32)};
  std::mt19937_64 generator(sequence);
  std::vector<int64_t> indices(static_cast<size_t>(size));
  std::iota(indices.begin(), indices.end(), 0);
  for (size_t i = indices.size(); i > 1; --i) std::swap(indices[i - 1], indices[draw_below(generator, i)]);
  return indices;
}

}  // namespace igpt::data
