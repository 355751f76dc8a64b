#include "igpt/training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace igpt::training {

TrainOptions complete(TrainOptions options) {
  constexpr int64_t kImages = 6400;  // to warm up, and to average over
  const int64_t of_update = images_read(options, 1).value_or(kImages);
  if (!options.warmup_steps) options.warmup_steps = std::min(kImages / of_update, options.steps / 20);
  if (!options.ema) options.ema = std::max(0.0, 1 - static_cast<double>(of_update) / kImages);
  return options;
}

double learning_rate(const TrainOptions& options, int64_t step) {
  const double peak = options.learning_rate;
  const int64_t warmup = options.warmup_steps.value_or(0);
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (options.schedule == "constant") return peak;
  const double start = std::max(options.hold * static_cast<double>(options.steps), static_cast<double>(warmup));
  const double length = static_cast<double>(options.steps) - start;
  const double fallen = length > 0 ? std::clamp((static_cast<double>(step) - start) / length, 0.0, 1.0) : 0.0;
  if (options.schedule == "linear") return peak * (1 - fallen);
  return peak * 0.5 * (1 + std::cos(std::numbers::pi * fallen));
}

double muon_momentum(const TrainOptions& options, int64_t step) {
  const double rise = 3.0 * static_cast<double>(options.warmup_steps.value_or(0));
  const double risen = static_cast<double>(step) < rise ? static_cast<double>(step) / rise : 1.0;
  return std::lerp(std::min(0.85, options.muon_momentum), options.muon_momentum, risen);
}

}  // namespace igpt::training
