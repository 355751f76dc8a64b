#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "igpt/fields.h"

namespace igpt::cli {

/// A flat JSON object for --json, with its members in the order in which they were added. Numbers keep every digit;
/// numbers that are not finite become null, bytes that are not UTF-8 become U+FFFD.
class JsonObject {
 public:
  JsonObject& add(std::string_view key, const FieldValue& value);
  JsonObject& add(std::string_view key, const std::vector<int64_t>& values);

  std::string text() const { return "{" + members_ + "}"; }

 private:
  JsonObject& append(std::string_view key, std::string_view json);
  std::string members_;
};

}  // namespace igpt::cli
