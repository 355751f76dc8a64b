#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "igpt/formats/byte_source.h"

namespace igpt::formats {

/// The element types of torch.Tensor that a checkpoint can hold.
enum class DType : uint8_t {
  float64,
  float32,
  float16,
  bfloat16,
  float8_e4m3fn,
  float8_e4m3fnuz,
  float8_e5m2,
  float8_e5m2fnuz,
  complex64,
  complex128,
  int64,
  int32,
  int16,
  int8,
  uint64,
  uint32,
  uint16,
  uint8,
  boolean,
};

size_t element_size(DType dtype);          ///< bytes
std::string_view dtype_name(DType dtype);  ///< as torch has it: "float32", "bool"
std::optional<DType> dtype_named(std::string_view name);

/// Bytes that one or more tensors look at, little-endian. Those of a file are read when they are looked at for the
/// first time, which must not happen in two threads at once.
class Storage {
 public:
  explicit Storage(SharedBytes bytes) : size_(bytes.bytes.size()), loaded_(std::move(bytes)) {}

  /// `load` brings the `size` bytes; it may throw igpt::InputError.
  Storage(uint64_t size, std::function<SharedBytes()> load) : size_(size), load_(std::move(load)) {}

  uint64_t size() const { return size_; }

  std::span<const std::byte> bytes() const {
    if (load_) loaded_ = load_();
    load_ = nullptr;
    return loaded_.bytes;
  }

 private:
  uint64_t size_;
  mutable SharedBytes loaded_;
  mutable std::function<SharedBytes()> load_;
};

/// A strided view of a storage, as torch.Tensor is one. Offset and strides count elements.
struct Tensor {
  std::shared_ptr<const Storage> storage;
  DType dtype = DType::float32;
  int64_t offset = 0;
  std::vector<int64_t> sizes, strides;

  int64_t numel() const;
  uint64_t nbytes() const { return static_cast<uint64_t>(numel()) * element_size(dtype); }
  bool is_contiguous() const;

  /// The elements where they lie in the storage (maybe unaligned), or nothing when they are not contiguous.
  std::optional<std::span<const std::byte>> contiguous() const;
};

/// Strides of a contiguous tensor of these sizes, in elements.
std::vector<int64_t> contiguous_strides(std::span<const int64_t> sizes);

/// What is wrong with a tensor whose numbers come from outside ("has a negative stride"), or nothing: at most 64
/// dimensions, no negative size, stride or offset, no overflow, every element inside the storage. A tensor that passes
/// is safe to read, but zero strides may make it far larger than its storage.
std::optional<std::string> tensor_fault(const Tensor& tensor);

/// The elements in row-major order, their bytes as they are.
std::vector<std::byte> contiguous_bytes(const Tensor& tensor);

/// The elements in row-major order as T, one of float, double (from every dtype but complex) and int64_t (from integers
/// and bool). Values that T cannot hold round to it (double to float) or throw InputError (uint64 to int64_t).
template <class T>
std::vector<T> to_vector(const Tensor& tensor);

/// A tree of plain data, as Python's pickle and YAML have it: what a checkpoint holds, before the toolkit looks for
/// what it needs in there. A Value of a container kind is a handle: copies share the container, as names do in Python.
///
/// A container that lies inside another one no longer changes (push and insert throw), so there are no cycles, and
/// nesting is limited to `max_depth`: every recursive walk ends and fits the stack. Walks that would visit shared parts
/// again and again must remember `identity()`.
class Value {
 public:
  enum class Kind : uint8_t {
    none,
    boolean,
    integer,      ///< fits int64_t
    big_integer,  ///< does not; as_bytes() is its two's complement, little-endian
    floating,
    string,  ///< UTF-8, in pickles also with surrogates; not checked here
    bytes,
    list,
    tuple,
    set,
    dict,    ///< in order of insertion
    tensor,  ///< also a bare storage, as a tensor of one dimension
    opaque,  ///< something that was named in a file and not made: a class, a dtype, a numpy array; see type_name()
  };

  static constexpr uint32_t max_depth = 500;
  static constexpr size_t max_key_bytes = 1024;  ///< of a string as key of a dict

  Value() = default;  ///< None
  Value(bool value) : data_(value) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Value(T value) : data_(checked_integer(value)) {}
  template <std::floating_point T>
  Value(T value) : data_(static_cast<double>(value)) {}
  Value(std::string value);
  Value(std::string_view value) : Value(std::string(value)) {}
  Value(const char* value) : Value(std::string(value)) {}
  Value(Tensor value);  ///< throws InputError on a tensor_fault

  static Value bytes(std::string value);
  static Value bytearray(std::string value);  ///< bytes that can change in Python
  static Value big_integer(std::string twos_complement);
  static Value list(std::vector<Value> items = {});
  static Value tuple(std::vector<Value> items = {});
  static Value set(std::vector<Value> items = {});
  static Value frozenset(std::vector<Value> items = {});  ///< of kind set; nothing is added to it
  static Value dict();
  static Value dict(std::vector<std::pair<Value, Value>> entries);
  static Value ordered_dict();  ///< written as collections.OrderedDict, which is what state_dict() returns in Python
  static Value dict_of_type(std::string type_name);
  static Value opaque(std::string type_name, bool hashable = true);

  /// A contiguous tensor with storage of its own.
  static Value tensor(DType dtype, std::vector<int64_t> sizes, std::vector<std::byte> bytes);
  /// The same over memory that `owner` keeps alive, such as a torch::Tensor's; nothing is copied.
  static Value tensor(DType dtype, std::vector<int64_t> sizes, std::span<const std::byte> bytes,
                      std::shared_ptr<const void> owner);

  /// Appends to a list or set.
  void push(Value item);
  /// Sets a dict's entry; one with an equal key (string or integer) is replaced where it is. Whether the key is new.
  bool insert(Value key, Value value);

  /// Whether both are one object, so that a change of one is seen in the other; never of None, bool, int or float.
  bool is_same_object(const Value& other) const;

  /// Whether Python takes it as a key of a dict or an item of a set, which push and insert ask: no list, dict, set or
  /// bytearray, nor a tuple with one of them.
  bool is_hashable() const;

  Kind kind() const;
  bool is_none() const { return kind() == Kind::none; }
  std::string_view kind_name() const;  ///< for messages: "a list", "None"

  // What the value is, or nothing if it is of another kind.
  std::optional<bool> as_bool() const;
  std::optional<int64_t> as_int() const;
  std::optional<double> as_double() const;  ///< a float or an integer
  const std::string* as_string() const;
  const std::string* as_bytes() const;  ///< of bytes or big_integer
  const Tensor* as_tensor() const;

  /// Of a list, tuple or set; otherwise empty.
  const std::vector<Value>& items() const;
  /// Of a dict; otherwise empty.
  const std::vector<std::pair<Value, Value>>& entries() const;
  /// A dict's value of this key, or nullptr (also when this is no dict).
  const Value* find(std::string_view key) const;
  const Value* find(int64_t key) const;

  /// Python's name: "dict", "collections.OrderedDict", "argparse.Namespace" of a dict, what was named for opaque ones.
  std::string_view type_name() const;

  /// The same for two Values that share a container, string or tensor; nullptr for numbers and None.
  const void* identity() const;

 private:
  struct Node;
  struct Text;
  struct Sequence;
  struct Dict;
  struct TensorNode;

  template <class T>
  static int64_t checked_integer(T value) {
    if (!std::in_range<int64_t>(value)) refuse_integer();
    return static_cast<int64_t>(value);
  }
  [[noreturn]] static void refuse_integer();
  static Value text(Kind kind, std::string value, bool hashable = true);
  static Value sequence(Kind kind, std::vector<Value> items);
  template <class T>
  const T* node() const;
  Node& changeable(Kind first, Kind second);
  static void enclose(Node& outer, const Value& inner);
  static void check_hashable(const Value& value, const char* place);

  std::variant<std::monostate, bool, int64_t, double, std::shared_ptr<Node>> data_;
};

}  // namespace igpt::formats
