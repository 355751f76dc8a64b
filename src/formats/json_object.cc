#include "igpt/formats/json_object.h"

#include <cmath>

namespace igpt::formats {
namespace {

// Length of the UTF-8 sequence at the start of `text` (RFC 3629, section 4); 0 where there is none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  const bool overlong = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
  const bool surrogate = first == 0xED && byte(1) > 0x9F, beyond = first == 0xF4 && byte(1) > 0x8F;
  return overlong || surrogate || beyond ? 0 : length;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string json_quoted(std::string_view text) {
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

JsonObject& JsonObject::append(std::string_view key, std::string_view json) {
  members_ += (members_.empty() ? "" : ", ") + json_quoted(key) + ": " + std::string(json);
  return *this;
}

JsonObject& JsonObject::add(std::string_view key, const FieldValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return append(key, json_quoted(*text));
  const auto* number = std::get_if<double>(&value);
  const bool is_null = value.index() == 0 || (number && !std::isfinite(*number));
  return append(key, is_null ? "null" : to_text(value));
}

JsonObject& JsonObject::add(std::string_view key, const std::vector<int64_t>& values) {
  std::string json = "[";
  for (const int64_t value : values) json += (json.size() > 1 ? ", " : "") + to_text(value);
  return append(key, json + "]");
}

}  // namespace igpt::formats
