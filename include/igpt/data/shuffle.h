#pragma once

#include <cstdint>
#include <vector>

namespace igpt::data {

/// 0 to size - 1 in an order that depends on `seed`, `stream` and `size` alone and is the same on every machine
/// (Fisher-Yates with std::mt19937_64, whose output the C++ standard fixes).
std::vector<int64_t> shuffled_indices(int64_t size, int64_t seed, int64_t stream);

}  // namespace igpt::data
