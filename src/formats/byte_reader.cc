#include "igpt/formats/byte_reader.h"

#include <algorithm>

#include "igpt/error.h"

namespace igpt::formats {

std::span<const std::byte> ByteReader::take(uint64_t count) {
  if (count > remaining()) fail("is cut off at byte " + std::to_string(size()) + "; copy it again");
  const auto taken = bytes_.subspan(position_, count);
  position_ += count;
  return taken;
}

std::string_view ByteReader::take_text(uint64_t count) {
  return text_of(take(count));
}

std::string_view ByteReader::line(size_t limit) {
  const auto window = bytes_.subspan(position_, std::min(remaining(), limit + 1));
  const auto end = std::find(window.begin(), window.end(), std::byte{'\n'});
  if (end == window.end() && window.size() == limit + 1)
    fail("has a line of more than " + std::to_string(limit) + " characters at byte " + std::to_string(position_));
  const auto text = take_text(static_cast<uint64_t>(end - window.begin()));
  take(1);
  return text;
}

void ByteReader::seek(uint64_t position) {
  if (position > size()) fail("is cut off at byte " + std::to_string(size()) + "; copy it again");
  position_ = position;
}

void ByteReader::fail(const std::string& predicate) const {
  throw InputError(subject_ + " " + predicate);
}

std::string printable(std::string_view text) {
  constexpr size_t limit = 80;
  constexpr char digits[] = "0123456789abcdef";
  std::string result;
  for (const char c : text) {
    if (result.size() >= limit) return result + "...";
    const auto code = static_cast<unsigned char>(c);
    if (code >= 0x20 && code != 0x7f && code < 0x80)
      result += c;
    else
      result += std::string("\\x") + digits[code >> 4] + digits[code & 15];
  }
  return result;
}

}  // namespace igpt::formats
