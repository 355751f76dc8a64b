#pragma once

#include <cstdint>
#include <span>

#include "igpt/error.h"

namespace igpt::sampling {

/// How a token is drawn from its logits.
struct SamplingOptions {
  double temperature = 1;  ///< logits are divided by it; > 0
  int64_t top_k = 0;       ///< only the k most likely tokens; 0: all; 1: greedy
  double top_p = 1;        ///< only the most likely tokens whose probabilities make up this much; in (0, 1]
  int64_t seed = 0;
};

/// Throws igpt::UsageError that names the option.
void check(const SamplingOptions& options);

/// A model's logits are infinite or not a number.
class LogitsNotFinite : public InputError {
 public:
  LogitsNotFinite()
      : InputError("the model's logits are not finite; its weights are damaged, take an earlier checkpoint") {}
};

/// One of the V tokens by its probability softmax(logits / temperature), restricted first to the top_k and then to the
/// nucleus of top_p (Holtzman et al. 2020, section 3.1: the fewest tokens, most likely first, that together reach
/// top_p). Of equally likely tokens the lower one counts as more likely. `u` in [0, 1) chooses along the tokens in
/// ascending order. Throws LogitsNotFinite.
int64_t draw(std::span<const float> logits, const SamplingOptions& options, double u);

}  // namespace igpt::sampling
