#pragma once

namespace igpt::ops::cpu {

/// Before a dispatch of Highway's: takes the widest vectors that this machine has or, for tests and for doubt, that
/// IGPT_VECTORS allows (avx512, avx2, sse4 or scalar; neon). Throws igpt::UsageError where it is none that is there.
void choose_vectors();

}  // namespace igpt::ops::cpu
