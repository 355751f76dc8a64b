#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "igpt/fields.h"

namespace igpt::formats {

/// Whether all of `text` is UTF-8 (RFC 3629).
bool is_utf8(std::string_view text);

/// `text` as JSON has it, with its quotes. Bytes that are not UTF-8 become U+FFFD.
std::string json_quoted(std::string_view text);

/// Writes a flat JSON object on one line, with its members in the order in which they were added. Numbers have the
/// fewest digits that keep their value; numbers that are not finite become null.
class JsonObject {
 public:
  JsonObject& add(std::string_view key, const FieldValue& value);
  JsonObject& add(std::string_view key, const std::vector<int64_t>& values);

  std::string text() const { return "{" + members_ + "}"; }

 private:
  JsonObject& append(std::string_view key, std::string_view json);
  std::string members_;
};

}  // namespace igpt::formats
