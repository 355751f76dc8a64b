#include "igpt/formats/utf8.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace igpt::formats {

bool is_utf8(std::string_view text, bool with_surrogates) {
  constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};  // code point that needs this length
  while (!text.empty()) {
    const auto first = static_cast<uint8_t>(text[0]);
    const auto ones = static_cast<size_t>(std::countl_one(first)), length = std::max<size_t>(ones, 1);
    if (ones == 1 || ones > 4 || length > text.size()) return false;
    uint32_t code = length == 1 ? first : first & (0x7f >> length);
    for (const char c : text.substr(1, length - 1)) {
      if ((c & 0xc0) != 0x80) return false;
      code = code << 6 | (c & 0x3f);
    }
    const bool is_surrogate = code >= 0xd800 && code < 0xe000;
    if (code < least[length] || code > 0x10ffff || (is_surrogate && !with_surrogates)) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace igpt::formats
