#include "igpt/formats/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <variant>

#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/input_file.h"

namespace igpt::formats {

struct Json::Node {
  struct Member;
  using List = std::vector<Node>;
  using Object = std::vector<Member>;  // sorted by key

  // In the order of Kind, whose numbers are of two types here. An integer beyond int64_t is a double.
  std::variant<std::monostate, bool, int64_t, double, std::string, List, Object> value;
};

struct Json::Node::Member {
  std::string key;
  Node node;
};

namespace {

using Node = Json::Node;
using Take = std::function<void(const std::string& key, const Json& value)>;

[[noreturn]] void fail_at(const std::string& name, const std::string& predicate) {
  throw InputError(name + ": " + predicate);
}

[[noreturn]] void fail_twice(const std::string& name, const std::string& key) {
  fail_at(name, "has the key " + printable(key) + " twice; do not trust this file");
}

// Builds the tree from the parser's events, and refuses what goes beyond the limits at the first event that does.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  // With `take` the members of the outermost object are given away one by one.
  Builder(std::string_view document, const std::string& name, const JsonLimits& limits, const Take& take)
      : document_(document), name_(name), limits_(limits), take_(take) {}

  Node root() { return std::move(root_); }

  bool null() override { return add({}); }
  bool boolean(bool value) override { return add({value}); }
  bool number_integer(number_integer_t value) override { return add({int64_t{value}}); }
  bool number_unsigned(number_unsigned_t value) override {
    return std::in_range<int64_t>(value) ? add({static_cast<int64_t>(value)}) : add({static_cast<double>(value)});
  }
  bool number_float(number_float_t value, const string_t&) override { return add({double{value}}); }
  bool string(string_t& value) override { return add({std::move(value)}); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return open({Node::Object()}); }
  bool start_array(size_t) override { return open({Node::List()}); }
  bool key(string_t& value) override {
    if (value.size() > limits_.key)
      fail_at(place(), "has a key of " + std::to_string(value.size()) + " bytes, more than the " +
                           std::to_string(limits_.key) + " that are read");
    open_.back().key = std::move(value);
    return true;
  }
  bool end_object() override {
    if (streams() && open_.size() == 1) {
      std::ranges::sort(keys_);
      if (const auto twice = std::ranges::adjacent_find(keys_); twice != keys_.end()) fail_twice(name_, *twice);
      open_.pop_back();
      return true;
    }
    auto& object = std::get<Node::Object>(open_.back().node.value);
    std::ranges::sort(object, {}, &Node::Member::key);
    const auto twice = std::ranges::adjacent_find(object, {}, &Node::Member::key);
    if (twice != object.end()) fail_twice(place(), twice->key);
    return close();
  }
  bool end_array() override { return close(); }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& error) override {
    if (error.id == 406) fail_at(place(), "has a number that is too large");
    const auto before = document_.substr(0, position > 0 ? position - 1 : 0);
    const auto line = 1 + std::ranges::count(before, '\n');
    const size_t column = before.size() - (before.rfind('\n') + 1) + 1;  // npos + 1 is 0
    fail_at(name_, "is not JSON at line " + std::to_string(line) + ", column " + std::to_string(column) +
                       "; correct it or copy it again");
  }

 private:
  struct Open {
    Node node;
    std::string key = {};  // of the member that is being read
  };

  bool streams() const { return static_cast<bool>(take_); }

  // The name of the innermost value that is open.
  std::string place() const {
    std::string result = name_;
    for (size_t i = 0; i + 1 < open_.size() && i < 3; ++i)
      if (!open_[i].key.empty()) result += ": " + printable(open_[i].key);
    return result;
  }

  bool add(Node node) {
    if (++values_ > limits_.values)
      fail_at(place(), "has more than " + std::to_string(limits_.values) + " values, which no such file needs");
    if (open_.empty()) {
      if (streams()) fail_at(name_, "must be an object");
      root_ = std::move(node);
    } else if (streams() && open_.size() == 1) {
      const std::string& key = open_.back().key;
      keys_.push_back(key);
      take_(key, Json(std::make_shared<const Node>(std::move(node)), name_ + ": " + printable(key)));
      values_ = 0;
    } else if (auto* list = std::get_if<Node::List>(&open_.back().node.value)) {
      list->push_back(std::move(node));
    } else {
      std::get<Node::Object>(open_.back().node.value).push_back({std::move(open_.back().key), std::move(node)});
    }
    return true;
  }

  bool open(Node node) {
    if (open_.empty() && streams() && !std::holds_alternative<Node::Object>(node.value))
      fail_at(name_, "must be an object");
    if (open_.size() >= limits_.depth)
      fail_at(place(), "is nested more than " + std::to_string(limits_.depth) + " deep, which no such file needs");
    open_.push_back({std::move(node)});
    return true;
  }

  bool close() {
    Node node = std::move(open_.back().node);
    open_.pop_back();
    return add(std::move(node));
  }

  std::string_view document_;
  const std::string& name_;
  const JsonLimits& limits_;
  const Take& take_;
  std::vector<Open> open_;
  std::vector<std::string> keys_;  // that were given away
  size_t values_ = 0;
  Node root_;
};

Node parse(std::string_view text, const std::string& name, const JsonLimits& limits, const Take& take) {
  if (text.size() > limits.bytes)
    fail_at(name, "has " + std::to_string(text.size()) + " bytes, more than the " + std::to_string(limits.bytes) +
                      " that such a text can have; is it the right one?");
  // The parser takes a zero byte for the end.
  if (text.find('\0') != text.npos) fail_at(name, "is not JSON, it has a zero byte; copy it again");
  Builder builder(text, name, limits, take);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.root();
}

}  // namespace

Json::Kind Json::kind() const {
  constexpr Kind kinds[] = {Kind::null, Kind::boolean, Kind::number, Kind::number,
                            Kind::text, Kind::list,    Kind::object};
  return kinds[node_->value.index()];
}

void Json::fail(const std::string& predicate) const {
  fail_at(name_, predicate);
}

template <class T>
const T& Json::as(const char* what) const {
  const T* value = std::get_if<T>(&node_->value);
  if (!value) fail(std::string("must be ") + what);
  return *value;
}

Json Json::child(const Node& node, const std::string& name) const {
  return {std::shared_ptr<const Node>(node_, &node), name_ + name};
}

bool Json::boolean() const {
  return as<bool>("true or false");
}

bool Json::is_whole() const {
  return std::holds_alternative<int64_t>(node_->value);
}

int64_t Json::whole(const Allowed<int64_t>& allowed) const {
  const auto* real = std::get_if<double>(&node_->value);
  if (real && std::abs(*real) >= 0x1p63) fail("is too large");
  const auto value = as<int64_t>("a whole number");
  if (allowed.test && !allowed.test(value)) fail_at(name_ + " " + to_text(value), "must be " + allowed.words);
  return value;
}

double Json::number(const Allowed<double>& allowed) const {
  const auto* integer = std::get_if<int64_t>(&node_->value);
  const double value = integer ? static_cast<double>(*integer) : as<double>("a number");
  if (allowed.test && !allowed.test(value)) fail_at(name_ + " " + to_text(value), "must be " + allowed.words);
  return value;
}

const std::string& Json::text() const {
  return as<std::string>("a text");
}

Json Json::item(size_t index) const {
  return child(as<Node::List>("a list")[index], "[" + std::to_string(index) + "]");
}

std::vector<Json> Json::items() const {
  std::vector<Json> result;
  for (size_t i = 0; i < as<Node::List>("a list").size(); ++i) result.push_back(item(i));
  return result;
}

// A list of numbers may be long: its items get their names only where one is refused.
std::vector<int64_t> Json::wholes(const Allowed<int64_t>& allowed) const {
  std::vector<int64_t> result;
  for (const Node& node : as<Node::List>("a list")) {
    const auto* value = std::get_if<int64_t>(&node.value);
    const bool is_good = value && (!allowed.test || allowed.test(*value));
    result.push_back(is_good ? *value : item(result.size()).whole(allowed));
  }
  return result;
}

std::vector<double> Json::numbers() const {
  std::vector<double> result;
  for (const Node& node : as<Node::List>("a list")) {
    const auto* value = std::get_if<double>(&node.value);
    result.push_back(value ? *value : item(result.size()).number());
  }
  return result;
}

std::vector<std::pair<std::string, Json>> Json::members() const {
  std::vector<std::pair<std::string, Json>> result;
  for (const auto& [key, node] : as<Node::Object>("an object"))
    result.emplace_back(key, child(node, ": " + printable(key)));
  return result;
}

Json Json::operator[](std::string_view key) const {
  const auto& object = as<Node::Object>("an object");
  const auto found = std::ranges::lower_bound(object, key, {}, &Node::Member::key);
  if (found == object.end() || found->key != key) fail("has no " + printable(key));
  return child(found->node, ": " + printable(key));
}

std::optional<Json> Json::find(std::string_view key) const {
  const auto& object = as<Node::Object>("an object");
  const auto found = std::ranges::lower_bound(object, key, {}, &Node::Member::key);
  if (found == object.end() || found->key != key || found->node.value.index() == 0) return std::nullopt;
  return child(found->node, ": " + printable(key));
}

Json parse_json(std::string_view text, const std::string& name, const JsonLimits& limits) {
  return {std::make_shared<const Node>(parse(text, name, limits, {})), name};
}

Json read_json(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(read_file(path, limits.bytes), path.string(), limits);
}

void for_each_json_member(std::string_view text, const std::string& name, const JsonLimits& limits, const Take& take) {
  parse(text, name, limits, take);
}

}  // namespace igpt::formats
