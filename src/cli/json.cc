#include "igpt/cli/json.h"

#include <charconv>
#include <cmath>

namespace igpt::cli {
namespace {

// Length of the UTF-8 sequence that `text` begins with (RFC 3629, section 4); 0 where it is none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool overlong = first == 0xE0 && byte(1) < 0xA0, surrogate = first == 0xED && byte(1) > 0x9F;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool overlong = first == 0xF0 && byte(1) < 0x90, beyond = first == 0xF4 && byte(1) > 0x8F;
    return continues(1) && continues(2) && continues(3) && !overlong && !beyond ? 4 : 0;
  }
  return 0;
}

std::string quoted(std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string json = "\"";
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text[0]);
    size_t length = utf8_length(text);
    if (length == 0) {
      json += "\xEF\xBF\xBD";
      length = 1;
    } else if (c < 0x20 || c == 0x7F) {
      json += std::string("\\u00") + digits[c >> 4] + digits[c & 15];
    } else {
      if (c == '"' || c == '\\') json += '\\';
      json += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return json + '"';
}

}  // namespace

JsonObject& JsonObject::append(std::string_view key, std::string_view json) {
  members_ += (members_.empty() ? "" : ", ") + quoted(key) + ": " + std::string(json);
  return *this;
}

JsonObject& JsonObject::add(std::string_view key, std::string_view value) {
  return append(key, quoted(value));
}
JsonObject& JsonObject::add(std::string_view key, int64_t value) {
  return append(key, std::to_string(value));
}
JsonObject& JsonObject::add(std::string_view key, bool value) {
  return append(key, value ? "true" : "false");
}

JsonObject& JsonObject::add(std::string_view key, double value) {
  char buffer[32];
  if (!std::isfinite(value)) return append(key, "null");
  return append(key, {buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr});
}

JsonObject& JsonObject::add(std::string_view key, const std::vector<int64_t>& values) {
  std::string json = "[";
  for (const int64_t value : values) json += (json.size() > 1 ? ", " : "") + std::to_string(value);
  return append(key, json + "]");
}

}  // namespace igpt::cli
