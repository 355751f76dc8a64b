#include "igpt/formats/pickle_value.h"

#include <algorithm>
#include <map>

namespace igpt::formats {
namespace {

using Kind = PickleValue::Kind;
using Key = PickleValue::Key;

struct Dict {
  std::string type;
  PickleValue::Entries entries;
  // Places of those keys whose equality is plain; the views are of the keys in `entries`. A tree, since an attacker can
  // make the hashes of a known function collide.
  std::map<Key, size_t> index;
};

std::optional<Key> plain_key(const PickleValue& value) {
  if (const auto* text = value.as_string()) return std::string_view(*text);
  const auto number = value.as_int();
  return number ? std::optional<Key>(*number) : std::nullopt;
}

}  // namespace

struct PickleValue::Node {
  Kind kind;
  std::variant<std::string, Items, Dict, StoredTensor> content;
  bool hashable = true;   // whether Python takes it as a key of a dict or an item of a set
  bool enclosed = false;  // lies inside another container
  uint32_t depth = 1;     // containers from here to the innermost one

  [[noreturn]] void refuse_change(const PickleValue& self) const {
    throw PickleValueError(std::string(self.kind_name()) + " that changes after it was put into another value");
  }
};

PickleValue::PickleValue(Kind kind, std::string text, bool hashable)
    : data_(std::make_shared<Node>(Node{kind, std::move(text), hashable})) {}

PickleValue::PickleValue(StoredTensor value) {
  if (const auto fault = tensor_fault(value)) throw PickleValueError("a tensor that " + *fault);
  data_ = std::make_shared<Node>(Node{Kind::tensor, std::move(value)});
}

PickleValue PickleValue::sequence(Kind kind, Items items, bool frozen) {
  Node node{kind, Items()};
  node.hashable = frozen || kind == Kind::tuple;
  for (const auto& item : items) {
    enclose(node, item);
    if (kind == Kind::set) check_hashable(item, "item of a set");
    node.hashable &= !item.node() || item.node()->hashable;
  }
  node.content = std::move(items);
  PickleValue result;
  result.data_ = std::make_shared<Node>(std::move(node));
  return result;
}

PickleValue PickleValue::dict_of_type(std::string type_name) {
  PickleValue result;
  result.data_ = std::make_shared<Node>(Node{Kind::dict, Dict{std::move(type_name), {}, {}}, /*hashable=*/false});
  return result;
}

PickleValue PickleValue::dict(Entries entries) {
  PickleValue result = dict_of_type("dict");
  for (auto& [key, value] : entries) result.insert(std::move(key), std::move(value));
  return result;
}

PickleValue PickleValue::tensor(DType dtype, std::vector<int64_t> sizes, std::span<const std::byte> bytes,
                                std::shared_ptr<const void> owner) {
  StoredTensor result{std::make_shared<const Storage>(SharedBytes{bytes, std::move(owner)}), dtype, 0, sizes, {}};
  result.strides.assign(sizes.size(), 0);
  if (const auto fault = tensor_fault(result)) throw PickleValueError("a tensor that " + *fault);
  result.strides = contiguous_strides(sizes);
  if (result.nbytes() != bytes.size())
    throw PickleValueError("a tensor that has " + std::to_string(bytes.size()) + " bytes where its sizes need " +
                           std::to_string(result.nbytes()));
  return result;
}

void PickleValue::enclose(Node& outer, const PickleValue& inner) {
  Node* node = inner.node();
  if (!node) return;
  if (node == &outer) node->refuse_change(inner);
  const uint32_t depth = node->depth + 1;
  if (depth > max_depth) throw PickleValueError("values nested deeper than " + std::to_string(max_depth));
  outer.depth = std::max(outer.depth, depth);
  node->enclosed = true;
}

void PickleValue::check_hashable(const PickleValue& value, const char* place) {
  if (!value.node() || value.node()->hashable) return;
  const std::string inner = value.kind() == Kind::tuple ? " with a list, dict or set in it" : "";
  throw PickleValueError(std::string(value.kind_name()) + inner + " as " + place);
}

PickleValue::Node& PickleValue::changeable(std::initializer_list<Kind> kinds) {
  if (std::ranges::find(kinds, kind()) == kinds.end())
    throw PickleValueError("an entry added to " + std::string(kind_name()));
  if (node()->enclosed) node()->refuse_change(*this);
  return *node();
}

void PickleValue::push(PickleValue item) {
  Node& node = changeable({Kind::list, Kind::set});
  enclose(node, item);
  if (node.hashable) throw PickleValueError("an entry added to a frozenset");
  if (node.kind == Kind::set) check_hashable(item, "item of a set");
  std::get<Items>(node.content).push_back(std::move(item));
}

bool PickleValue::insert(PickleValue key, PickleValue value) {
  Node& node = changeable({Kind::dict});
  enclose(node, key);
  enclose(node, value);
  check_hashable(key, "key of a dict");
  if (key.as_string() && key.as_string()->size() > max_key_bytes)
    throw PickleValueError("a key of " + std::to_string(key.as_string()->size()) + " characters");
  auto& dict = std::get<Dict>(node.content);
  if (const auto plain = plain_key(key)) {
    const auto [place, added] = dict.index.try_emplace(*plain, dict.entries.size());
    if (!added) {
      dict.entries[place->second].second = std::move(value);
      return false;
    }
  }
  dict.entries.emplace_back(std::move(key), std::move(value));
  return true;
}

PickleValue::Node* PickleValue::node() const {
  const auto* node = std::get_if<std::shared_ptr<Node>>(&data_);
  return node ? node->get() : nullptr;
}

Kind PickleValue::kind() const {
  return node() ? node()->kind : static_cast<Kind>(data_.index());
}

std::string_view PickleValue::kind_name() const {
  constexpr std::string_view names[] = {"None",     "a bool",   "an integer", "a float", "a large integer",
                                        "a string", "bytes",    "a list",     "a tuple", "a set",
                                        "a dict",   "a tensor", "an object"};
  return names[static_cast<size_t>(kind())];
}

std::optional<bool> PickleValue::as_bool() const {
  const auto* value = std::get_if<bool>(&data_);
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<int64_t> PickleValue::as_int() const {
  const auto* value = std::get_if<int64_t>(&data_);
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<double> PickleValue::as_double() const {
  if (const auto* value = std::get_if<double>(&data_)) return *value;
  const auto number = as_int();
  return number ? std::optional(static_cast<double>(*number)) : std::nullopt;
}

template <class T>
const T* PickleValue::content(bool is_of_kind) const {
  return is_of_kind ? std::get_if<T>(&node()->content) : nullptr;
}

const std::string* PickleValue::as_string() const {
  return content<std::string>(kind() == Kind::string);
}

const std::string* PickleValue::as_bytes() const {
  return content<std::string>(kind() == Kind::bytes || kind() == Kind::big_integer);
}

const StoredTensor* PickleValue::as_tensor() const {
  return content<StoredTensor>(kind() == Kind::tensor);
}

const PickleValue::Items& PickleValue::items() const {
  static const Items none;
  const auto* items = content<Items>(node() != nullptr);
  return items ? *items : none;
}

const PickleValue::Entries& PickleValue::entries() const {
  static const Entries none;
  const auto* dict = content<Dict>(node() != nullptr);
  return dict ? dict->entries : none;
}

const PickleValue* PickleValue::find(Key key) const {
  const auto* dict = content<Dict>(node() != nullptr);
  if (!dict) return nullptr;
  const auto found = dict->index.find(key);
  return found == dict->index.end() ? nullptr : &dict->entries[found->second].second;
}

std::string_view PickleValue::type_name() const {
  if (const auto* dict = content<Dict>(node() != nullptr)) return dict->type;
  const auto* name = content<std::string>(kind() == Kind::opaque);
  return name ? *name : std::string_view();
}

}  // namespace igpt::formats
