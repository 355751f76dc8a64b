#pragma once

#include <cstdint>

namespace igpt::ops {

/// How a token is drawn from its logits.
struct SamplingOptions {
  double temperature = 1;  ///< logits are divided by it; > 0
  int64_t top_k = 0;       ///< only the k most likely tokens; 0: all; 1: greedy
  double top_p = 1;        ///< only the most likely tokens whose probabilities make up this much; in (0, 1]
  int64_t seed = 0;
};

}  // namespace igpt::ops
