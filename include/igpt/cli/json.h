#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace igpt::cli {

/// One flat JSON object, members in the order they were added, for --json. Numbers keep every digit; a number that is
/// not finite becomes null; bytes that are not UTF-8 become U+FFFD.
class JsonObject {
 public:
  JsonObject& add(std::string_view key, std::string_view value);
  JsonObject& add(std::string_view key, const char* value) { return add(key, std::string_view(value)); }
  JsonObject& add(std::string_view key, int64_t value);
  JsonObject& add(std::string_view key, int value) { return add(key, static_cast<int64_t>(value)); }
  JsonObject& add(std::string_view key, double value);
  JsonObject& add(std::string_view key, bool value);
  JsonObject& add(std::string_view key, const std::vector<int64_t>& values);

  std::string text() const { return "{" + members_ + "}"; }

 private:
  JsonObject& append(std::string_view key, std::string_view json);
  std::string members_;
};

}  // namespace igpt::cli
