#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "igpt/cli/program.h"
#include "igpt/commands/commands.h"

namespace igpt {

/// Adds the options that `sample` and `gif` have in common.
inline void add_sampling_options(cli::Options& options, ops::SamplingOptions& sampling, std::string& precision,
                                 cli::CommonOptions& common) {
  options.group("Sampling");
  options.add("temperature", sampling.temperature, "divides the logits", greater_than(0));
  options.add("top_k", sampling.top_k, "only the k likeliest tokens; 0: all, 1: greedy", at_least(0));
  options.add("top_p", sampling.top_p, "only the likeliest tokens that together have this probability",
              {"greater than 0, at most 1", [](double p) { return p > 0 && p <= 1; }});
  options.add("precision", precision, "of a large model's weights, keys and values on a CPU; bf16 is faster",
              one_of({"fp32", "bf16"}));
  cli::add_seed_option(options, common);
}

/// " of class 3" or " of classes 0, 1", each once, for a line that tells what was drawn; empty where there are none.
inline std::string of_classes(const std::vector<int64_t>& classes) {
  std::vector<std::string> names;
  for (const int64_t label : classes)
    if (const auto name = std::to_string(label); std::ranges::find(names, name) == names.end()) names.push_back(name);
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return names.empty() ? "" : (names.size() == 1 ? " of class " : " of classes ") + text;
}

}  // namespace igpt
