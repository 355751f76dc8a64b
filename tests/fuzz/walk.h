#pragma once

#include <set>

#include "fuzz.h"
#include "igpt/formats/pickle_value.h"
#include "tensor_values.h"

namespace igpt::fuzz {

/// Visits everything in a tree, each shared part once, so that a sanitizer sees reads outside its memory.
inline void walk(const formats::PickleValue& value, std::set<const void*>& seen) {
  if (value.identity() && !seen.insert(value.identity()).second) return;
  if (const auto* tensor = value.as_tensor()) {
    succeeds_or_refuses([&] { testing::elements_of(*tensor); });
  }
  for (const auto& item : value.items()) walk(item, seen);
  for (const auto& [key, entry] : value.entries()) {
    walk(key, seen);
    walk(entry, seen);
  }
}

inline void walk(const formats::PickleValue& value) {
  std::set<const void*> seen;
  walk(value, seen);
}

}  // namespace igpt::fuzz
