#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "igpt/fields.h"

namespace igpt::formats {

/// How large a text may be. What is read of it takes about 40 bytes for each value.
struct JsonLimits {
  size_t bytes = size_t{4} << 20;
  size_t key = 1024;        ///< bytes of each key
  size_t depth = 32;        ///< of lists and objects in each other
  size_t values = 200'000;  ///< in all; for_each_json_member: in each member
};

/// A value of a JSON text, with its place, which starts every message: "config.json: n_embd". The accessors convert
/// nothing, and throw InputError on a value of another kind: "config.json: n_embd: must be a whole number". Cheap to
/// copy.
class Json {
 public:
  enum class Kind : uint8_t { null, boolean, number, text, list, object };

  struct Node;
  Json(std::shared_ptr<const Node> node, std::string name) : node_(std::move(node)), name_(std::move(name)) {}

  Kind kind() const;
  const std::string& name() const { return name_; }

  bool boolean() const;
  /// Whether whole() reads it.
  bool is_whole() const;
  /// Exactly this integer, written without fraction and exponent.
  int64_t whole(const Allowed<int64_t>& allowed = {}) const;
  /// The nearest double; finite.
  double number(const Allowed<double>& allowed = {}) const;
  const std::string& text() const;

  // Of a list; the name of an item is "config.json: clusters[3]".
  std::vector<Json> items() const;
  std::vector<int64_t> wholes(const Allowed<int64_t>& allowed = {}) const;
  std::vector<double> numbers() const;

  // Of an object, sorted by key.
  std::vector<std::pair<std::string, Json>> members() const;
  /// Throws InputError "config.json: has no n_embd".
  Json operator[](std::string_view key) const;
  /// Nothing where there is no such member, or where it is null.
  std::optional<Json> find(std::string_view key) const;

  /// Throws InputError "NAME: PREDICATE".
  [[noreturn]] void fail(const std::string& predicate) const;

 private:
  template <class T>
  const T& as(const char* what) const;
  Json item(size_t index) const;
  Json child(const Node& node, const std::string& name) const;

  std::shared_ptr<const Node> node_;
  std::string name_;
};

/// Reads a JSON text (RFC 8259): UTF-8, no key of an object twice, nothing behind the value. `name` starts the
/// messages. Throws InputError.
Json parse_json(std::string_view text, const std::string& name, const JsonLimits& limits = {});

/// The same of a file.
Json read_json(const std::filesystem::path& path, const JsonLimits& limits = {});

/// Reads a text that must be one object and calls take(key, value) for each member in turn, so that never more than one
/// of them is in memory. That a key is there twice is found at the end.
void for_each_json_member(std::string_view text, const std::string& name, const JsonLimits& limits,
                          const std::function<void(const std::string& key, const Json& value)>& take);

}  // namespace igpt::formats
