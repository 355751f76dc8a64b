#include "igpt/sampling/draw.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "igpt/error.h"

namespace igpt::sampling {
namespace {

// The tokens that may be drawn, most likely first; probabilities need not sum to 1.
std::vector<size_t> candidates(const std::vector<double>& probabilities, const ops::SamplingOptions& options) {
  std::vector<size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return probabilities[a] > probabilities[b]; });
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(options.top_k)));
  if (options.top_p < 1) {
    double total = 0, reached = 0;
    for (const size_t token : order) total += probabilities[token];
    size_t kept = 0;
    while (kept < order.size() && reached < options.top_p * total) reached += probabilities[order[kept++]];
    order.resize(std::max<size_t>(kept, 1));
  }
  return order;
}

}  // namespace

void check(const ops::SamplingOptions& options) {
  if (!(options.temperature > 0) || !std::isfinite(options.temperature))
    throw UsageError("--temperature must be greater than 0; --top_k 1 always takes the likeliest");
  if (options.top_k < 0) throw UsageError("--top_k " + std::to_string(options.top_k) + ": must be at least 0");
  if (!(options.top_p > 0 && options.top_p <= 1)) throw UsageError("--top_p must be greater than 0 and at most 1");
}

int64_t draw(std::span<const float> logits, const ops::SamplingOptions& options, double u) {
  float largest = logits[0];
  for (const float logit : logits) {
    if (!std::isfinite(logit)) throw LogitsNotFinite();
    largest = std::max(largest, logit);
  }
  std::vector<double> probabilities(logits.size());  // not normalised
  for (size_t token = 0; token < logits.size(); ++token)
    probabilities[token] = std::exp((double{logits[token]} - largest) / options.temperature);

  if (options.top_k > 0 || options.top_p < 1) {
    std::vector<double> restricted(probabilities.size(), 0.0);
    for (const size_t token : candidates(probabilities, options)) restricted[token] = probabilities[token];
    probabilities = std::move(restricted);
  }
  const double total = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  double reached = 0;
  size_t chosen = 0;
  for (size_t token = 0; token < probabilities.size(); ++token) {
    if (probabilities[token] == 0) continue;
    chosen = token;
    reached += probabilities[token];
    if (u * total < reached) break;
  }
  return static_cast<int64_t>(chosen);
}

}  // namespace igpt::sampling
