#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace igpt::testing {

/// The header of an IDX file of unsigned bytes; its values follow.
inline std::string idx_header(const std::vector<int64_t>& shape) {
  std::string header{'\0', '\0', '\x08', static_cast<char>(shape.size())};
  for (const int64_t size : shape)
    for (int shift = 24; shift >= 0; shift -= 8) header += static_cast<char>(size >> shift & 0xff);
  return header;
}

}  // namespace igpt::testing
