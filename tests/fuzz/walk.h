#pragma once

#include <set>

#include "fuzz.h"
#include "igpt/formats/value.h"

namespace igpt::fuzz {

/// Looks at everything in a tree, each shared part once, so that a sanitizer sees what lies outside its memory.
inline void walk(const formats::Value& value, std::set<const void*>& seen) {
  if (value.identity() && !seen.insert(value.identity()).second) return;
  if (const auto* tensor = value.as_tensor()) {
    succeeds_or_refuses([&] { formats::contiguous_bytes(*tensor); });
    succeeds_or_refuses([&] { formats::to_vector<float>(*tensor); });
    succeeds_or_refuses([&] { formats::to_vector<int64_t>(*tensor); });
  }
  for (const auto& item : value.items()) walk(item, seen);
  for (const auto& [key, entry] : value.entries()) {
    walk(key, seen);
    walk(entry, seen);
  }
}

inline void walk(const formats::Value& value) {
  std::set<const void*> seen;
  walk(value, seen);
}

}  // namespace igpt::fuzz
