#include "igpt/formats/value.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "igpt/error.h"
#include "igpt/formats/checked.h"

namespace igpt::formats {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  size_t size;
};

constexpr DTypeRow dtypes[] = {
    {DType::float64, "float64", 8},
    {DType::float32, "float32", 4},
    {DType::float16, "float16", 2},
    {DType::bfloat16, "bfloat16", 2},
    {DType::float8_e4m3fn, "float8_e4m3fn", 1},
    {DType::float8_e4m3fnuz, "float8_e4m3fnuz", 1},
    {DType::float8_e5m2, "float8_e5m2", 1},
    {DType::float8_e5m2fnuz, "float8_e5m2fnuz", 1},
    {DType::complex64, "complex64", 8},
    {DType::complex128, "complex128", 16},
    {DType::int64, "int64", 8},
    {DType::int32, "int32", 4},
    {DType::int16, "int16", 2},
    {DType::int8, "int8", 1},
    {DType::uint64, "uint64", 8},
    {DType::uint32, "uint32", 4},
    {DType::uint16, "uint16", 2},
    {DType::uint8, "uint8", 1},
    {DType::boolean, "bool", 1},
};

const DTypeRow& row(DType dtype) {
  return dtypes[static_cast<size_t>(dtype)];
}

constexpr bool rows_in_order() {
  for (size_t i = 0; i < std::size(dtypes); ++i)
    if (dtypes[i].dtype != static_cast<DType>(i)) return false;
  return true;
}
static_assert(rows_in_order());

}  // namespace

size_t element_size(DType dtype) {
  return row(dtype).size;
}
std::string_view dtype_name(DType dtype) {
  return row(dtype).name;
}

std::optional<DType> dtype_named(std::string_view name) {
  for (const auto& candidate : dtypes)
    if (candidate.name == name) return candidate.dtype;
  return std::nullopt;
}

int64_t Tensor::numel() const {
  int64_t product = 1;
  for (const int64_t size : sizes) product *= size;
  return product;
}

bool Tensor::is_contiguous() const {
  if (numel() == 0) return true;
  int64_t expected = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    if (sizes[i] != 1 && strides[i] != expected) return false;
    expected *= sizes[i];
  }
  return true;
}

std::optional<std::span<const std::byte>> Tensor::contiguous() const {
  if (!is_contiguous()) return std::nullopt;
  if (numel() == 0) return std::span<const std::byte>();
  return storage->bytes().subspan(static_cast<uint64_t>(offset) * element_size(dtype), nbytes());
}

std::vector<int64_t> contiguous_strides(std::span<const int64_t> sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(sizes[i], 1);
  }
  return strides;
}

std::optional<std::string> tensor_fault(const Tensor& tensor) {
  if (!tensor.storage) return "has no storage";
  if (tensor.sizes.size() > 64) return "has more than 64 dimensions";
  if (tensor.sizes.size() != tensor.strides.size()) return "has as many strides as it has not sizes";
  if (tensor.offset < 0) return "starts before its storage";
  // The bound is on bytes, sizes of 0 counting as 1, so that no later product can overflow.
  std::optional<int64_t> bytes = static_cast<int64_t>(element_size(tensor.dtype));
  std::optional<int64_t> last = tensor.offset;
  bool empty = false;
  for (size_t i = 0; i < tensor.sizes.size(); ++i) {
    const int64_t size = tensor.sizes[i], stride = tensor.strides[i];
    if (size < 0) return "has a negative size";
    if (stride < 0) return "has a negative stride";
    empty |= size == 0;
    bytes = bytes ? checked_multiply(*bytes, std::max<int64_t>(size, 1)) : bytes;
    const auto reach = checked_multiply(stride, std::max<int64_t>(size, 1) - 1);
    last = last && reach ? checked_add(*last, *reach) : std::nullopt;
  }
  if (!bytes || !last) return "has more elements than can be counted";
  const auto capacity = static_cast<int64_t>(tensor.storage->size() / element_size(tensor.dtype));
  if (empty ? tensor.offset > capacity : *last >= capacity) return "reaches beyond the end of its storage";
  return std::nullopt;
}

namespace {

// Calls visit(first byte of an element) in row-major order.
template <class Visit>
void for_each_element(const Tensor& tensor, Visit visit) {
  const int64_t count = tensor.numel();
  if (count == 0) return;
  const size_t dims = tensor.sizes.size(), width = element_size(tensor.dtype);
  std::vector<int64_t> index(dims, 0);
  const std::byte* bytes = tensor.storage->bytes().data();
  int64_t element = tensor.offset;
  for (int64_t i = 0; i < count; ++i) {
    visit(bytes + static_cast<size_t>(element) * width);
    for (size_t d = dims; d-- > 0;) {
      element += tensor.strides[d];
      if (++index[d] < tensor.sizes[d]) break;
      element -= tensor.strides[d] * tensor.sizes[d];
      index[d] = 0;
    }
  }
}

template <class T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

// IEEE-like formats of at most 16 bits: sign, exponent, mantissa.
struct SmallFloat {
  int exponent_bits, mantissa_bits, bias;
  enum Special { ieee, all_ones_is_nan, negative_zero_is_nan } special;
};

constexpr SmallFloat half_format{5, 10, 15, SmallFloat::ieee};
constexpr SmallFloat e4m3fn_format{4, 3, 7, SmallFloat::all_ones_is_nan};
constexpr SmallFloat e4m3fnuz_format{4, 3, 8, SmallFloat::negative_zero_is_nan};
constexpr SmallFloat e5m2_format{5, 2, 15, SmallFloat::ieee};
constexpr SmallFloat e5m2fnuz_format{5, 2, 16, SmallFloat::negative_zero_is_nan};

double widen(uint32_t bits, const SmallFloat& format) {
  const uint32_t mantissa_mask = (1u << format.mantissa_bits) - 1, exponent_mask = (1u << format.exponent_bits) - 1;
  const uint32_t mantissa = bits & mantissa_mask, exponent = bits >> format.mantissa_bits & exponent_mask;
  const bool negative = bits >> (format.mantissa_bits + format.exponent_bits) & 1;
  const double sign = negative ? -1 : 1, nan = std::numeric_limits<double>::quiet_NaN();
  if (format.special == SmallFloat::ieee && exponent == exponent_mask)
    return mantissa ? nan : sign * std::numeric_limits<double>::infinity();
  if (format.special == SmallFloat::all_ones_is_nan && exponent == exponent_mask && mantissa == mantissa_mask)
    return nan;
  if (format.special == SmallFloat::negative_zero_is_nan && negative && exponent == 0 && mantissa == 0) return nan;
  const uint32_t significand = exponent ? mantissa | (mantissa_mask + 1) : mantissa;
  const int scale = static_cast<int>(std::max(exponent, 1u)) - format.bias - format.mantissa_bits;
  return sign * std::ldexp(static_cast<double>(significand), scale);
}

template <class T, class Convert>
std::vector<T> converted(const Tensor& tensor, Convert convert) {
  std::vector<T> result;
  result.reserve(static_cast<size_t>(tensor.numel()));
  for_each_element(tensor, [&](const std::byte* at) { result.push_back(convert(at)); });
  return result;
}

template <class T, class Source>
std::vector<T> converted_from(const Tensor& tensor) {
  if constexpr (std::same_as<T, Source>)
    if (const auto bytes = tensor.contiguous(); bytes && !bytes->empty()) {
      std::vector<T> result(bytes->size() / sizeof(T));
      std::memcpy(result.data(), bytes->data(), bytes->size());
      return result;
    }
  return converted<T>(tensor, [](const std::byte* at) {
    const auto value = load<Source>(at);
    if constexpr (std::integral<T> && std::integral<Source>)
      if (!std::in_range<T>(value)) throw InputError("an unsigned integer of 2^63 or more in a tensor");
    return static_cast<T>(value);
  });
}

template <class T>
std::vector<T> converted_small(const Tensor& tensor, const SmallFloat& format) {
  if (element_size(tensor.dtype) == 2)
    return converted<T>(tensor, [&](const std::byte* at) { return static_cast<T>(widen(load<uint16_t>(at), format)); });
  return converted<T>(tensor, [&](const std::byte* at) { return static_cast<T>(widen(load<uint8_t>(at), format)); });
}

template <class T>
std::vector<T> from_integers(const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::int64:
      return converted_from<T, int64_t>(tensor);
    case DType::int32:
      return converted_from<T, int32_t>(tensor);
    case DType::int16:
      return converted_from<T, int16_t>(tensor);
    case DType::int8:
      return converted_from<T, int8_t>(tensor);
    case DType::uint64:
      return converted_from<T, uint64_t>(tensor);
    case DType::uint32:
      return converted_from<T, uint32_t>(tensor);
    case DType::uint16:
      return converted_from<T, uint16_t>(tensor);
    case DType::uint8:
      return converted_from<T, uint8_t>(tensor);
    case DType::boolean:
      return converted<T>(tensor, [](const std::byte* at) { return static_cast<T>(load<uint8_t>(at) != 0); });
    default:
      throw InputError("a tensor of " + std::string(dtype_name(tensor.dtype)) + " where another dtype is needed");
  }
}

template <class T>
std::vector<T> from_numbers(const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::float64:
      return converted_from<T, double>(tensor);
    case DType::float32:
      return converted_from<T, float>(tensor);
    case DType::float16:
      return converted_small<T>(tensor, half_format);
    case DType::bfloat16:
      return converted<T>(tensor, [](const std::byte* at) {
        return static_cast<T>(std::bit_cast<float>(static_cast<uint32_t>(load<uint16_t>(at)) << 16));
      });
    case DType::float8_e4m3fn:
      return converted_small<T>(tensor, e4m3fn_format);
    case DType::float8_e4m3fnuz:
      return converted_small<T>(tensor, e4m3fnuz_format);
    case DType::float8_e5m2:
      return converted_small<T>(tensor, e5m2_format);
    case DType::float8_e5m2fnuz:
      return converted_small<T>(tensor, e5m2fnuz_format);
    default:
      return from_integers<T>(tensor);
  }
}

}  // namespace

std::vector<std::byte> contiguous_bytes(const Tensor& tensor) {
  if (const auto bytes = tensor.contiguous()) return {bytes->begin(), bytes->end()};
  const size_t width = element_size(tensor.dtype);
  std::vector<std::byte> result;
  result.reserve(tensor.nbytes());
  for_each_element(tensor, [&](const std::byte* at) { result.insert(result.end(), at, at + width); });
  return result;
}

template <>
std::vector<float> to_vector(const Tensor& tensor) {
  return from_numbers<float>(tensor);
}

template <>
std::vector<double> to_vector(const Tensor& tensor) {
  return from_numbers<double>(tensor);
}

template <>
std::vector<int64_t> to_vector(const Tensor& tensor) {
  return from_integers<int64_t>(tensor);
}

struct Value::Node {
  explicit Node(Kind its_kind) : kind(its_kind) {}
  Kind kind;
  bool hashable = true;
  bool enclosed = false;  ///< lies inside another container
  uint32_t depth = 1;     ///< containers from here to the innermost one
};

struct Value::Text : Node {
  Text(Kind its_kind, std::string its_text) : Node(its_kind), text(std::move(its_text)) {}
  std::string text;
};

struct Value::Sequence : Node {
  using Node::Node;
  std::vector<Value> items;
};

struct Value::TensorNode : Node {
  explicit TensorNode(Tensor its_tensor) : Node(Kind::tensor), tensor(std::move(its_tensor)) {}
  Tensor tensor;
};

struct Value::Dict : Node {
  explicit Dict(std::string its_type) : Node(Kind::dict), type(std::move(its_type)) { hashable = false; }

  // Keys whose equality is plain; any other is appended without a look. The views are of the keys in `entries`. A tree,
  // since hashes of a known function can be made to collide.
  using Key = std::variant<int64_t, std::string_view>;
  static std::optional<Key> key(const Value& value) {
    if (const auto* text = value.as_string()) return std::string_view(*text);
    if (value.kind() == Kind::integer) return *value.as_int();
    return std::nullopt;
  }
  const Value* find(const Key& wanted) const {
    const auto found = index.find(wanted);
    return found == index.end() ? nullptr : &entries[found->second].second;
  }

  std::string type;
  std::vector<std::pair<Value, Value>> entries;
  std::map<Key, size_t> index;
};

Value::Value(std::string value) : Value(text(Kind::string, std::move(value))) {}

Value::Value(Tensor value) {
  if (const auto fault = tensor_fault(value)) throw InputError("a tensor that " + *fault);
  data_ = std::make_shared<TensorNode>(std::move(value));
}

void Value::refuse_integer() {
  throw Error("an integer of 2^63 or more in a Value");
}

Value Value::text(Kind kind, std::string value, bool hashable) {
  const auto node = std::make_shared<Text>(kind, std::move(value));
  node->hashable = hashable;
  Value result;
  result.data_ = node;
  return result;
}

Value Value::bytes(std::string value) {
  return text(Kind::bytes, std::move(value));
}
Value Value::bytearray(std::string value) {
  return text(Kind::bytes, std::move(value), /*hashable=*/false);
}
Value Value::big_integer(std::string twos_complement) {
  return text(Kind::big_integer, std::move(twos_complement));
}
Value Value::opaque(std::string type_name, bool hashable) {
  return text(Kind::opaque, std::move(type_name), hashable);
}

Value Value::sequence(Kind kind, std::vector<Value> items) {
  const auto node = std::make_shared<Sequence>(kind);
  for (const auto& item : items) enclose(*node, item);
  if (kind == Kind::set)
    for (const auto& item : items) check_hashable(item, "item of a set");
  node->hashable = kind == Kind::tuple && std::ranges::all_of(items, &Value::is_hashable);
  node->items = std::move(items);
  Value result;
  result.data_ = node;
  return result;
}

Value Value::list(std::vector<Value> items) {
  return sequence(Kind::list, std::move(items));
}
Value Value::tuple(std::vector<Value> items) {
  return sequence(Kind::tuple, std::move(items));
}
Value Value::set(std::vector<Value> items) {
  return sequence(Kind::set, std::move(items));
}
Value Value::frozenset(std::vector<Value> items) {
  Value result = set(std::move(items));
  std::get<std::shared_ptr<Node>>(result.data_)->hashable = true;
  return result;
}

Value Value::dict() {
  return dict_of_type("dict");
}
Value Value::ordered_dict() {
  return dict_of_type("collections.OrderedDict");
}

Value Value::dict_of_type(std::string type_name) {
  Value result;
  result.data_ = std::make_shared<Dict>(std::move(type_name));
  return result;
}

Value Value::dict(std::vector<std::pair<Value, Value>> entries) {
  Value result = dict();
  for (auto& [key, value] : entries) result.insert(std::move(key), std::move(value));
  return result;
}

Value Value::tensor(DType dtype, std::vector<int64_t> sizes, std::vector<std::byte> bytes) {
  const auto owner = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  return tensor(dtype, std::move(sizes), *owner, owner);
}

Value Value::tensor(DType dtype, std::vector<int64_t> sizes, std::span<const std::byte> bytes,
                    std::shared_ptr<const void> owner) {
  Tensor result{std::make_shared<const Storage>(SharedBytes{bytes, std::move(owner)}), dtype, 0, sizes, {}};
  result.strides.assign(sizes.size(), 0);
  if (const auto fault = tensor_fault(result)) throw InputError("a tensor that " + *fault);
  result.strides = contiguous_strides(sizes);
  if (result.nbytes() != bytes.size())
    throw InputError("a tensor that has " + std::to_string(bytes.size()) + " bytes where its sizes need " +
                     std::to_string(result.nbytes()));
  return result;
}

void Value::enclose(Node& outer, const Value& inner) {
  const auto* node = std::get_if<std::shared_ptr<Node>>(&inner.data_);
  if (!node) return;
  const uint32_t depth = (*node)->depth + 1;
  if (depth > max_depth) throw InputError("values nested deeper than " + std::to_string(max_depth));
  outer.depth = std::max(outer.depth, depth);
  (*node)->enclosed = true;
}

void Value::check_hashable(const Value& value, const char* place) {
  if (value.is_hashable()) return;
  const std::string inner = value.kind() == Kind::tuple ? " with a list, dict or set in it" : "";
  throw InputError(std::string(value.kind_name()) + inner + " as " + place);
}

Value::Node& Value::changeable(Kind first, Kind second) {
  const Kind actual = kind();
  if (actual != first && actual != second) throw InputError("an entry added to " + std::string(kind_name()));
  Node& result = *std::get<std::shared_ptr<Node>>(data_);
  if (result.enclosed) throw InputError(std::string(kind_name()) + " that changes after it was put into another value");
  return result;
}

void Value::push(Value item) {
  // Enclosed first: a list that is pushed into itself then counts as enclosed.
  auto& list = static_cast<Sequence&>(changeable(Kind::list, Kind::set));
  enclose(list, item);
  changeable(Kind::list, Kind::set);
  if (list.hashable) throw InputError("an entry added to a frozenset");
  if (list.kind == Kind::set) check_hashable(item, "item of a set");
  list.items.push_back(std::move(item));
}

bool Value::insert(Value key, Value value) {
  auto& dict = static_cast<Dict&>(changeable(Kind::dict, Kind::dict));
  enclose(dict, key);
  enclose(dict, value);
  changeable(Kind::dict, Kind::dict);
  check_hashable(key, "key of a dict");
  const auto plain = Dict::key(key);
  if (key.as_string() && key.as_string()->size() > max_key_bytes)
    throw InputError("a key of " + std::to_string(key.as_string()->size()) + " characters");
  if (plain) {
    const auto [place, added] = dict.index.try_emplace(*plain, dict.entries.size());
    if (!added) {
      dict.entries[place->second].second = std::move(value);
      return false;
    }
  }
  dict.entries.emplace_back(std::move(key), std::move(value));
  return true;
}

bool Value::is_same_object(const Value& other) const {
  const auto* node = std::get_if<std::shared_ptr<Node>>(&data_);
  const auto* others = std::get_if<std::shared_ptr<Node>>(&other.data_);
  return node && others && *node == *others;
}

template <class T>
const T* Value::node() const {
  const auto* node = std::get_if<std::shared_ptr<Node>>(&data_);
  return node ? static_cast<const T*>(node->get()) : nullptr;
}

bool Value::is_hashable() const {
  const auto* node = std::get_if<std::shared_ptr<Node>>(&data_);
  return !node || (*node)->hashable;
}

Value::Kind Value::kind() const {
  switch (data_.index()) {
    case 0:
      return Kind::none;
    case 1:
      return Kind::boolean;
    case 2:
      return Kind::integer;
    case 3:
      return Kind::floating;
    default:
      return node<Node>()->kind;
  }
}

std::string_view Value::kind_name() const {
  constexpr std::string_view names[] = {"None",     "a bool",   "an integer", "a large integer", "a float",
                                        "a string", "bytes",    "a list",     "a tuple",         "a set",
                                        "a dict",   "a tensor", "an object"};
  return names[static_cast<size_t>(kind())];
}

std::optional<bool> Value::as_bool() const {
  const auto* value = std::get_if<bool>(&data_);
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<int64_t> Value::as_int() const {
  const auto* value = std::get_if<int64_t>(&data_);
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<double> Value::as_double() const {
  if (const auto* value = std::get_if<double>(&data_)) return *value;
  if (const auto* value = std::get_if<int64_t>(&data_)) return static_cast<double>(*value);
  return std::nullopt;
}

const std::string* Value::as_string() const {
  return kind() == Kind::string ? &node<Text>()->text : nullptr;
}

const std::string* Value::as_bytes() const {
  return kind() == Kind::bytes || kind() == Kind::big_integer ? &node<Text>()->text : nullptr;
}

const Tensor* Value::as_tensor() const {
  return kind() == Kind::tensor ? &node<TensorNode>()->tensor : nullptr;
}

const std::vector<Value>& Value::items() const {
  static const std::vector<Value> none;
  const bool sequence = kind() == Kind::list || kind() == Kind::tuple || kind() == Kind::set;
  return sequence ? node<Sequence>()->items : none;
}

const std::vector<std::pair<Value, Value>>& Value::entries() const {
  static const std::vector<std::pair<Value, Value>> none;
  return kind() == Kind::dict ? node<Dict>()->entries : none;
}

const Value* Value::find(std::string_view key) const {
  return kind() == Kind::dict ? node<Dict>()->find(key) : nullptr;
}

const Value* Value::find(int64_t key) const {
  return kind() == Kind::dict ? node<Dict>()->find(key) : nullptr;
}

std::string_view Value::type_name() const {
  switch (kind()) {
    case Kind::none:
      return "NoneType";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
    case Kind::big_integer:
      return "int";
    case Kind::floating:
      return "float";
    case Kind::string:
      return "str";
    case Kind::bytes:
      return "bytes";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::set:
      return is_hashable() ? "frozenset" : "set";
    case Kind::dict:
      return node<Dict>()->type;
    case Kind::tensor:
      return "torch.Tensor";
    case Kind::opaque:
      return node<Text>()->text;
  }
  return "";
}

const void* Value::identity() const {
  return node<Node>();
}

}  // namespace igpt::formats
