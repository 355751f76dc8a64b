#include "igpt/training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace igpt::training {

double learning_rate(const TrainOptions& options, int64_t step) {
  const double peak = options.learning_rate;
  if (step < options.warmup_steps)
    return peak * static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  if (options.schedule == "constant") return peak;
  const double start =
      std::max(options.hold * static_cast<double>(options.steps), static_cast<double>(options.warmup_steps));
  const double length = static_cast<double>(options.steps) - start;
  const double fallen = length > 0 ? std::clamp((static_cast<double>(step) - start) / length, 0.0, 1.0) : 0.0;
  if (options.schedule == "linear") return peak * (1 - fallen);
  return peak * 0.5 * (1 + std::cos(std::numbers::pi * fallen));
}

double muon_momentum(const TrainOptions& options, int64_t step) {
  const double rise = 3.0 * static_cast<double>(options.warmup_steps);
  const double risen = static_cast<double>(step) < rise ? static_cast<double>(step) / rise : 1.0;
  return std::lerp(std::min(0.85, options.muon_momentum), options.muon_momentum, risen);
}

}  // namespace igpt::training
