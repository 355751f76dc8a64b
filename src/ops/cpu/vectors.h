#pragma once

#include <string>

namespace igpt::ops::cpu {

/// The name that IGPT_VECTORS and messages have for a Highway target: "avx512" for "AVX3".
std::string name_of_vectors(std::string name);

/// Before a dispatch of Highway's: takes the widest vectors that this machine has or, for tests and for doubt, that
/// IGPT_VECTORS allows (avx512, avx2, sse4 or scalar; neon). Throws igpt::UsageError where it is none that is there.
void choose_vectors();

}  // namespace igpt::ops::cpu
