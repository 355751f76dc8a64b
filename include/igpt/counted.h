#pragma once

#include <cstdint>
#include <string>

namespace igpt {

/// "1 image", "3 images": of nouns whose plural takes an s.
inline std::string counted(int64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace igpt
