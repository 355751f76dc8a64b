#pragma once

#include <cstdint>
#include <span>

#include "igpt/ops/sampling_options.h"

namespace igpt::sampling {

/// Throws igpt::UsageError that names the option.
void check(const ops::SamplingOptions& options);

/// One of the V tokens by its probability softmax(logits / temperature), restricted first to the top_k and then to the
/// nucleus of top_p (Holtzman et al. 2020, section 3.1: the fewest tokens, most likely first, that together reach
/// top_p). Of equally likely tokens the lower one counts as more likely. `u` in [0, 1) chooses along the tokens in
/// ascending order. Throws LogitsNotFinite.
int64_t draw(std::span<const float> logits, const ops::SamplingOptions& options, double u);

}  // namespace igpt::sampling
