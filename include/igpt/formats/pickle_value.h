#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "igpt/error.h"
#include "igpt/formats/stored_tensor.h"

namespace igpt::formats {

/// A value that PickleValue cannot hold. The message is a noun phrase, for "data.pkl holds ...": "values nested deeper
/// than 500".
class PickleValueError : public InputError {
 public:
  using InputError::InputError;
};

/// A tree of plain data, as Python's pickle has it: the content of a checkpoint before anything is looked up in it. A
/// PickleValue of a container kind is a handle: copies share the container, as names do in Python.
///
/// A container that lies inside another one no longer changes (push and insert throw PickleValueError), so there are no
/// cycles, and nesting is limited to `max_depth`: every recursive walk ends and fits on the stack. Walks that would
/// visit shared parts again and again must remember `identity()`.
class PickleValue {
 public:
  enum class Kind : uint8_t {
    none,
    boolean,
    integer,  ///< fits int64_t
    floating,
    big_integer,  ///< does not fit int64_t; as_bytes() is its two's complement, little-endian
    string,       ///< UTF-8, in pickles also with surrogates; not checked here
    bytes,
    list,
    tuple,
    set,
    dict,  ///< in order of insertion
    tensor,
    opaque,  ///< named in a file but not created: a class, a dtype, a numpy array; see type_name()
  };
  using Items = std::vector<PickleValue>;
  using Entries = std::vector<std::pair<PickleValue, PickleValue>>;
  using Key = std::variant<int64_t, std::string_view>;  ///< of a dict, as far as keys can be looked up

  static constexpr uint32_t max_depth = 500;
  static constexpr size_t max_key_bytes = 1024;  ///< of a string as key of a dict

  PickleValue() = default;  ///< None
  PickleValue(bool value) : data_(value) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) PickleValue(T value) : data_(static_cast<int64_t>(value)) {
    if (!std::in_range<int64_t>(value)) throw Error("an integer of 2^63 or more in a PickleValue");
  }
  template <std::floating_point T>
  PickleValue(T value) : data_(static_cast<double>(value)) {}
  PickleValue(std::string value) : PickleValue(Kind::string, std::move(value)) {}
  PickleValue(std::string_view value) : PickleValue(std::string(value)) {}
  PickleValue(const char* value) : PickleValue(std::string(value)) {}
  PickleValue(StoredTensor value);  ///< throws PickleValueError on a tensor_fault

  static PickleValue bytes(std::string value) { return {Kind::bytes, std::move(value)}; }
  static PickleValue bytearray(std::string value) { return {Kind::bytes, std::move(value), /*hashable=*/false}; }
  static PickleValue big_integer(std::string digits) { return {Kind::big_integer, std::move(digits)}; }
  static PickleValue opaque(std::string type_name, bool hashable = true) {
    return {Kind::opaque, std::move(type_name), hashable};
  }
  static PickleValue list(Items items = {}) { return sequence(Kind::list, std::move(items)); }
  static PickleValue tuple(Items items = {}) { return sequence(Kind::tuple, std::move(items)); }
  static PickleValue set(Items items = {}) { return sequence(Kind::set, std::move(items)); }
  static PickleValue frozenset(Items items = {}) { return sequence(Kind::set, std::move(items), /*frozen=*/true); }
  static PickleValue dict(Entries entries = {});
  static PickleValue dict_of_type(std::string type_name);
  /// Written as collections.OrderedDict, which is what state_dict() returns in Python.
  static PickleValue ordered_dict() { return dict_of_type("collections.OrderedDict"); }

  /// A contiguous tensor over memory that `owner` keeps alive, such as a torch::Tensor's; nothing is copied. Throws
  /// PickleValueError when `bytes` does not have the size of such a tensor.
  static PickleValue tensor(DType dtype, std::vector<int64_t> sizes, std::span<const std::byte> bytes,
                            std::shared_ptr<const void> owner);

  /// Appends to a list or set.
  void push(PickleValue item);
  /// Sets a dict's entry, replacing one with an equal key (string or integer) in its place. Returns whether the key is
  /// new.
  bool insert(PickleValue key, PickleValue value);

  Kind kind() const;
  bool is_none() const { return kind() == Kind::none; }
  std::string_view kind_name() const;  ///< for messages: "a list", "None"

  // The value as the given type, or nothing if it is of another kind.
  std::optional<bool> as_bool() const;
  std::optional<int64_t> as_int() const;
  std::optional<double> as_double() const;  ///< a float or an integer
  const std::string* as_string() const;
  const std::string* as_bytes() const;  ///< of bytes or big_integer
  const StoredTensor* as_tensor() const;

  /// Of a list, tuple or set; otherwise empty.
  const Items& items() const;
  /// Of a dict; otherwise empty.
  const Entries& entries() const;
  /// A dict's value of this key, or nullptr (also when this is not a dict).
  const PickleValue* find(Key key) const;

  /// Python's name of a dict's type ("dict", "collections.OrderedDict", "argparse.Namespace"), or the name that was
  /// given to an opaque value; otherwise empty.
  std::string_view type_name() const;

  /// The same for two values that share a container, string or tensor; nullptr for numbers and None.
  const void* identity() const { return node(); }

 private:
  struct Node;

  PickleValue(Kind kind, std::string text, bool hashable = true);
  static PickleValue sequence(Kind kind, Items items, bool frozen = false);
  Node* node() const;
  template <class T>
  const T* content(bool is_of_kind) const;
  Node& changeable(std::initializer_list<Kind> kinds);
  static void enclose(Node& outer, const PickleValue& inner);
  static void check_hashable(const PickleValue& value, const char* place);

  std::variant<std::monostate, bool, int64_t, double, std::shared_ptr<Node>> data_;  // without a node: in Kind's order
};

}  // namespace igpt::formats
