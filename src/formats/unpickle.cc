#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <map>

#include "igpt/error.h"
#include "igpt/formats/checked.h"
#include "igpt/formats/pickle.h"
#include "igpt/formats/utf8.h"
#include "src/formats/opcodes.h"
#include "src/formats/pickle_names.h"

namespace igpt::formats {
namespace {

using Kind = PickleValue::Kind;
using Items = PickleValue::Items;

// Upper bounds of the memory for one of each, in bytes, including the allocator's overhead.
constexpr uint64_t node_cost = 160, item_cost = 72, entry_cost = 240, memo_cost = 96;

// The integer of a little-endian two's complement of any length.
PickleValue integer_of(std::string_view digits) {
  if (digits.size() > sizeof(int64_t)) return PickleValue::big_integer(std::string(digits));
  uint64_t value = !digits.empty() && (digits.back() & 0x80) ? UINT64_MAX : 0;
  std::memcpy(&value, digits.data(), digits.size());
  return std::bit_cast<int64_t>(value);
}

double widen_half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 31
                               ? (mantissa ? NAN : INFINITY)
                               : std::ldexp(exponent ? mantissa + 1024 : mantissa, std::max(exponent, 1) - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

template <class T>
T load(const std::string& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// A numpy scalar from the bytes of a dtype such as "i4".
PickleValue number_of(std::string_view numpy_code, const std::string& bytes) {
  switch (numpy_code[0]) {
    case 'b':
      return bytes[0] != 0;
    case 'i':
      return integer_of(bytes);
    case 'u':
      return integer_of(bytes.back() & 0x80 ? bytes + '\0' : bytes);
    case 'f':
      if (bytes.size() == 2) return widen_half(load<uint16_t>(bytes));
      return bytes.size() == 4 ? double{load<float>(bytes)} : load<double>(bytes);
    default:
      return PickleValue::opaque("numpy.scalar");
  }
}

std::optional<DType> dtype_called(std::string_view DTypeInfo::*field, std::string_view global) {
  constexpr std::string_view prefix = "torch.";
  return global.starts_with(prefix) ? find_dtype(field, global.substr(prefix.size())) : std::nullopt;
}

std::optional<DType> storage_called(std::string_view global) {
  if (global == "torch.UntypedStorage" || global == "torch._UntypedStorage") return DType::uint8;
  return dtype_called(&DTypeInfo::storage_class, global);
}

class Unpickler {
 public:
  Unpickler(ByteReader& reader, const UnpickleOptions& options)
      : reader_(reader), options_(options), start_(reader.position()) {}

  PickleValue run() try {
    static const Actions actions = [] {
      Actions table = {};
      add_value_actions(table);
      add_stack_actions(table);
      return table;
    }();
    for (;;) {
      const size_t at = reader_.position();
      const uint8_t opcode = reader_.u8();
      if (static_cast<char>(opcode) == op::stop) break;
      if (!actions[opcode])
        reader_.fail("is no pickle of torch.save: opcode " + std::to_string(opcode) + " at byte " + std::to_string(at));
      actions[opcode](*this);
    }
    if (stack_.size() != 1 || !marks_.empty()) reader_.fail("ends with other than one value; the file is damaged");
    return pop();
  } catch (const PickleValueError& error) {
    reader_.fail("holds " + std::string(error.what()) + " (" + here() + ")");
  }

 private:
  using Action = void (*)(Unpickler& u);
  using Actions = std::array<Action, 256>;  // by opcode; nullptr: unknown

  // Makes the value of a call of an allowed global; nullptr for those that are named and never called.
  using Call = PickleValue (Unpickler::*)(const std::string& name, const Items& arguments);

  static void add_value_actions(Actions& actions) {
    const auto on = [&](char opcode, Action action) { actions[static_cast<uint8_t>(opcode)] = action; };
    on(op::none, [](auto& u) { u.push({}); });
    on(op::newtrue, [](auto& u) { u.push(true); });
    on(op::newfalse, [](auto& u) { u.push(false); });
    on(op::binint, [](auto& u) { u.push(u.reader_.i32()); });
    on(op::binint1, [](auto& u) { u.push(u.reader_.u8()); });
    on(op::binint2, [](auto& u) { u.push(u.reader_.u16()); });
    on(op::binfloat, [](auto& u) { u.push(u.reader_.f64_be()); });
    on(op::long1, [](auto& u) { u.push_long(u.reader_.u8()); });
    on(op::long4, [](auto& u) { u.push_long(u.reader_.u32()); });
    on(op::text_int, [](Unpickler& u) {
      const auto line = u.reader_.line(64);
      u.push(line == "00" || line == "01" ? PickleValue(line == "01") : u.parsed<int64_t>(line));
    });
    on(op::text_long, [](Unpickler& u) { u.push(u.parsed<int64_t>(u.reader_.line(64))); });
    on(op::text_float, [](Unpickler& u) { u.push(u.parsed<double>(u.reader_.line(64))); });

    // Python 2's strings are bytes, which torch.load decodes strictly; a str may have lone surrogates.
    on(op::short_binstring, [](auto& u) { u.push_string(u.reader_.u8(), /*surrogates=*/false); });
    on(op::binstring, [](auto& u) { u.push_string(u.reader_.u32(), /*surrogates=*/false); });
    on(op::short_binunicode, [](auto& u) { u.push_string(u.reader_.u8(), /*surrogates=*/true); });
    on(op::binunicode, [](auto& u) { u.push_string(u.reader_.u32(), /*surrogates=*/true); });
    on(op::binunicode8, [](auto& u) { u.push_string(u.reader_.u64(), /*surrogates=*/true); });
    on(op::short_binbytes, [](auto& u) { u.push_bytes(&PickleValue::bytes, u.reader_.u8()); });
    on(op::binbytes, [](auto& u) { u.push_bytes(&PickleValue::bytes, u.reader_.u32()); });
    on(op::binbytes8, [](auto& u) { u.push_bytes(&PickleValue::bytes, u.reader_.u64()); });
    on(op::bytearray8, [](auto& u) { u.push_bytes(&PickleValue::bytearray, u.reader_.u64()); });

    on(op::empty_tuple, [](auto& u) { u.push_sequence(&PickleValue::tuple, {}); });
    on(op::tuple1, [](auto& u) { u.push_sequence(&PickleValue::tuple, u.pop_items(1)); });
    on(op::tuple2, [](auto& u) { u.push_sequence(&PickleValue::tuple, u.pop_items(2)); });
    on(op::tuple3, [](auto& u) { u.push_sequence(&PickleValue::tuple, u.pop_items(3)); });
    on(op::tuple, [](auto& u) { u.push_sequence(&PickleValue::tuple, u.pop_to_mark()); });
    on(op::empty_list, [](auto& u) { u.push_sequence(&PickleValue::list, {}); });
    on(op::list, [](auto& u) { u.push_sequence(&PickleValue::list, u.pop_to_mark()); });
    on(op::empty_set, [](auto& u) { u.push_sequence(&PickleValue::set, {}); });
    on(op::frozenset, [](auto& u) { u.push_sequence(&PickleValue::frozenset, u.pop_to_mark()); });
    on(op::empty_dict, [](auto& u) { u.push_dict({}); });
    on(op::dict, [](auto& u) { u.push_dict(u.pop_to_mark()); });
  }

  static void add_stack_actions(Actions& actions) {
    const auto on = [&](char opcode, Action action) { actions[static_cast<uint8_t>(opcode)] = action; };
    on(op::append, [](auto& u) { u.append(u.pop_items(1)); });
    on(op::appends, [](auto& u) { u.append(u.pop_to_mark()); });
    on(op::additems, [](auto& u) { u.append(u.pop_to_mark()); });
    on(op::setitem, [](auto& u) { u.set_items(u.pop_items(2)); });
    on(op::setitems, [](auto& u) { u.set_items(u.pop_to_mark()); });

    on(op::mark, [](auto& u) {
      u.charge(item_cost);
      u.marks_.push_back(u.stack_.size());
    });
    on(op::pop, [](auto& u) {
      const bool is_mark = !u.marks_.empty() && u.marks_.back() == u.stack_.size();
      if (is_mark)
        u.marks_.pop_back();
      else
        u.pop();
    });
    on(op::pop_mark, [](auto& u) { u.pop_to_mark(); });
    on(op::dup, [](auto& u) { u.push(PickleValue(u.top())); });
    on(op::memoize, [](auto& u) { u.memoize(static_cast<uint32_t>(u.memo_.size())); });
    on(op::binput, [](auto& u) { u.memoize(u.reader_.u8()); });
    on(op::long_binput, [](auto& u) { u.memoize(u.reader_.u32()); });
    on(op::text_put, [](Unpickler& u) { u.memoize(u.parsed<uint32_t>(u.reader_.line(64))); });
    on(op::binget, [](auto& u) { u.recall(u.reader_.u8()); });
    on(op::long_binget, [](auto& u) { u.recall(u.reader_.u32()); });
    on(op::text_get, [](Unpickler& u) { u.recall(u.parsed<uint32_t>(u.reader_.line(64))); });
    on(op::proto, [](auto& u) {
      if (const int protocol = u.reader_.u8(); protocol > 5)
        u.reader_.fail("is of pickle protocol " + std::to_string(protocol) + ", the newest known is 5");
    });
    on(op::frame, [](auto& u) {
      if (u.reader_.u64() > u.reader_.remaining()) u.reader_.fail("has a frame that is longer than the file");
    });

    on(op::global, [](auto& u) {
      const auto module = u.reader_.line(256), name = u.reader_.line(256);
      u.push_global(module, name);
    });
    on(op::inst, [](auto& u) {  // would also call the global; it is Python 2's, and torch.save never writes it
      const auto module = u.reader_.line(256), name = u.reader_.line(256);
      u.push_global(module, name);
      u.refuse_call(u.top());
    });
    on(op::stack_global, [](auto& u) {
      const PickleValue name = u.pop(), module = u.pop();
      if (!name.as_string() || !module.as_string()) u.reader_.fail("names a global by other than strings");
      u.push_global(*module.as_string(), *name.as_string());
    });
    on(op::reduce, [](auto& u) { u.reduce(); });
    on(op::newobj, [](auto& u) { u.reduce(); });
    on(op::newobj_ex, [](auto& u) {
      const PickleValue named = u.pop();
      if (named.kind() != Kind::dict || !named.entries().empty()) u.fail_arguments("a call");
      u.reduce();
    });
    on(op::build, [](auto& u) { u.build(); });
    on(op::binpersid, [](auto& u) {
      const PickleValue id = u.pop();
      if (!u.options_.persistent_load) u.reader_.fail("refers to storages where there are none");
      u.charge(2 * node_cost);
      u.push(u.options_.persistent_load(id));
    });
  }

  void charge(uint64_t bytes) {
    charged_ += bytes;
    if (charged_ > options_.memory_limit + (reader_.position() - start_))
      reader_.fail("describes more values than any checkpoint needs; it was not loaded");
  }

  void push(PickleValue value) {
    if (stack_.size() == highest_stack_) {
      charge(item_cost);
      ++highest_stack_;
    }
    stack_.push_back(std::move(value));
  }

  PickleValue& top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back()))
      reader_.fail("takes a value that is not there at " + here() + "; the file is damaged");
    return stack_.back();
  }

  PickleValue pop() {
    PickleValue value = std::move(top());
    stack_.pop_back();
    return value;
  }

  Items pop_items(size_t count) {
    charge(count * item_cost);
    Items items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    return items;
  }

  Items pop_to_mark() {
    if (marks_.empty()) reader_.fail("takes values that are not there at " + here() + "; the file is damaged");
    Items items = pop_items(stack_.size() - marks_.back());
    marks_.pop_back();
    return items;
  }

  template <class T>
  T parsed(std::string_view line) {
    if (line.ends_with('L')) line.remove_suffix(1);
    T value{};
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
    if (error != std::errc() || end != line.data() + line.size())
      reader_.fail("has no number where one should be, before " + here());
    return value;
  }

  void push_long(uint64_t size) {
    const auto digits = reader_.take_text(size);
    if (size > sizeof(int64_t)) charge(node_cost + size);
    push(integer_of(digits));
  }

  void push_bytes(PickleValue (*make)(std::string), uint64_t size) {
    const auto bytes = reader_.take_text(size);
    charge(node_cost + size);
    push(make(std::string(bytes)));
  }

  void push_string(uint64_t size, bool surrogates) {
    const auto text = reader_.take_text(size);
    if (!is_utf8(text, surrogates))
      reader_.fail("has text that is not UTF-8 before " + here() +
                   ", which torch.load refuses; the file is damaged, or Python 2 wrote it");
    charge(node_cost + size);
    push(text);
  }

  void push_sequence(PickleValue (*make)(Items), Items items) {
    charge(node_cost);
    push(make(std::move(items)));
  }

  void push_dict(Items keys_and_values) {
    charge(node_cost);
    push(PickleValue::dict());
    set_items(std::move(keys_and_values));
  }

  void append(Items items) {
    PickleValue& target = top();
    for (auto& item : items) target.push(std::move(item));
  }

  void set_items(Items keys_and_values) {
    if (keys_and_values.size() % 2) reader_.fail("has a key without a value; the file is damaged");
    charge(keys_and_values.size() / 2 * entry_cost);
    PickleValue& target = top();
    for (size_t i = 0; i < keys_and_values.size(); i += 2)
      add_entry(target, keys_and_values[i], std::move(keys_and_values[i + 1]));
  }

  // No pickler writes a key twice. Which of the two values counts would depend on the reader.
  void add_entry(PickleValue& dict, const PickleValue& key, PickleValue value) {
    if (dict.insert(key, std::move(value))) return;
    const auto* text = key.as_string();
    throw PickleValueError("two entries of the key " + (text ? printable(*text) : std::to_string(*key.as_int())) +
                           ", which contradict each other");
  }

  // Adds the entries of another dict, or of a list of pairs.
  void add_entries(PickleValue& dict, const PickleValue& content) {
    charge(entry_cost * (content.entries().size() + content.items().size()));
    for (const auto& [key, value] : content.entries()) add_entry(dict, key, value);
    for (const auto& pair : content.items()) {
      if (pair.items().size() != 2) fail_arguments(dict.type_name());
      add_entry(dict, pair.items()[0], pair.items()[1]);
    }
  }

  void memoize(uint32_t index) {
    charge(memo_cost);
    memo_[index] = top();
  }

  void recall(uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end())
      reader_.fail("recalls value " + std::to_string(index) + ", which it did not store; the file is damaged");
    push(found->second);
  }

  // Everything that a checkpoint of torch.save or Lightning 0.8 to 2 may name.
  static std::optional<Call> call_of(std::string_view name) {
    using U = Unpickler;
    static constexpr std::pair<std::string_view, Call> calls[] = {
        {"_codecs.encode", &U::make_bytes<&PickleValue::bytes>},
        {"argparse.Namespace", &U::make_dict},
        {"builtins.bool", nullptr},
        {"builtins.bytearray", &U::make_bytes<&PickleValue::bytearray>},
        {"builtins.bytes", &U::make_bytes<&PickleValue::bytes>},
        {"builtins.complex", &U::make_opaque},
        {"builtins.dict", &U::make_dict},
        {"builtins.float", nullptr},
        {"builtins.frozenset", &U::make_sequence<&PickleValue::frozenset>},
        {"builtins.int", nullptr},
        {"builtins.list", &U::make_sequence<&PickleValue::list>},
        {"builtins.object", nullptr},
        {"builtins.range", &U::make_opaque},
        {"builtins.set", &U::make_sequence<&PickleValue::set>},
        {"builtins.slice", &U::make_opaque},
        {"builtins.str", nullptr},
        {"builtins.tuple", &U::make_tuple},
        {"builtins.xrange", &U::make_opaque},
        {"collections.Counter", &U::make_dict},
        {"collections.OrderedDict", &U::make_dict},
        {"collections.defaultdict", &U::make_dict},
        {"collections.deque", &U::make_sequence<&PickleValue::list>},
        {"copyreg._reconstructor", &U::make_object},
        {"lightning_fabric.utilities.data.AttributeDict", &U::make_dict},
        {"numpy.core.multiarray._reconstruct", &U::make_opaque},
        {"numpy.core.multiarray.scalar", &U::make_numpy_scalar},
        {"numpy.core.numeric._frombuffer", &U::make_opaque},
        {"numpy.dtype", &U::make_numpy_dtype},
        {"numpy.ndarray", &U::make_opaque},
        {"pathlib.Path", &U::make_path},
        {"pathlib.PosixPath", &U::make_path},
        {"pathlib.PurePath", &U::make_path},
        {"pathlib.PurePosixPath", &U::make_path},
        {"pathlib.PureWindowsPath", &U::make_path},
        {"pathlib.WindowsPath", &U::make_path},
        {"pytorch_lightning.utilities.parsing.AttributeDict", &U::make_dict},
        {"torch.Size", &U::make_tuple},
        {"torch.Tensor", nullptr},
        {"torch.TypedStorage", nullptr},
        {"torch._TypedStorage", nullptr},
        {"torch._tensor._rebuild_from_type_v2", &U::make_subclass},
        {"torch._utils._rebuild_parameter", &U::make_parameter},
        {"torch._utils._rebuild_parameter_with_state", &U::make_parameter},
        {"torch._utils._rebuild_tensor", &U::make_tensor},
        {"torch._utils._rebuild_tensor_v2", &U::make_tensor},
        {"torch._utils._rebuild_tensor_v3", &U::make_tensor},
        {"torch.device", &U::make_opaque},
        {"torch.nn.parameter.Buffer", &U::make_parameter},
        {"torch.nn.parameter.Parameter", &U::make_parameter},
        {"torch.torch_version.TorchVersion", &U::make_string},
    };
    for (const auto& [known, call] : calls)
      if (known == name) return call;
    const bool only_named = dtype_called(&DTypeInfo::name, name) || storage_called(name) ||
                            name.starts_with("pytorch_lightning.callbacks.");
    return only_named ? std::optional<Call>(nullptr) : std::nullopt;
  }

  void push_global(std::string_view module, std::string_view name) {
    const auto known_as = canonical_global(module.substr(0, 256), name.substr(0, 256));
    if (!call_of(known_as))
      refuse_global(known_as, "asks for " + printable(std::string(module) + "." + std::string(name)));
    charge(node_cost + known_as.size());
    push(PickleValue::opaque(known_as));
  }

  void reduce() {
    const PickleValue arguments = pop(), callable = pop();
    push(call(callable, arguments));
  }

  PickleValue call(const PickleValue& callable, const PickleValue& arguments) {
    const std::string name(callable.type_name());
    const auto call = callable.kind() == Kind::opaque ? call_of(name).value_or(nullptr) : nullptr;
    if (!call) refuse_call(callable);
    if (arguments.kind() != Kind::tuple) fail_arguments(name);
    charge(node_cost + name.size());
    return (this->*call)(name, arguments.items());
  }

  // dict(), dict(mapping), dict([(key, value), ...]), defaultdict(factory).
  PickleValue make_dict(const std::string& name, const Items& arguments) {
    const size_t before_content = name == "collections.defaultdict" ? 1 : 0;
    PickleValue result = PickleValue::dict_of_type(name);
    if (arguments.size() <= before_content) return result;
    const Kind kind = arguments.back().kind();
    if (arguments.size() > before_content + 1 || (kind != Kind::dict && kind != Kind::list)) fail_arguments(name);
    add_entries(result, arguments.back());
    return result;
  }

  // set([...]), deque([...], maxlen).
  template <PickleValue (*make)(Items)>
  PickleValue make_sequence(const std::string& name, const Items& arguments) {
    if (arguments.empty()) return make({});
    if (!arguments[0].identity()) fail_arguments(name);
    charge(item_cost * arguments[0].items().size());
    return make(arguments[0].items());
  }

  PickleValue make_tuple(const std::string& name, const Items& arguments) {
    if (arguments.size() == 1 && arguments[0].kind() == Kind::tuple) return arguments[0];
    return make_sequence<&PickleValue::tuple>(name, arguments);
  }

  // bytes(), bytes(b"..."), and encode(text, "latin1"), which is how protocol 2 writes bytes.
  template <PickleValue (*make)(std::string)>
  PickleValue make_bytes(const std::string& name, const Items& arguments) {
    if (arguments.empty()) return make("");
    if (const auto* bytes = arguments[0].as_bytes()) {
      charge(bytes->size());
      return make(*bytes);
    }
    const auto* text = arguments[0].as_string();
    const auto* encoding = arguments.size() > 1 ? arguments[1].as_string() : nullptr;
    if (!text || !encoding || (*encoding != "latin1" && *encoding != "latin-1")) fail_arguments(name);
    charge(text->size());
    std::string bytes;
    for (size_t i = 0; i < text->size(); ++i) {
      const auto first = static_cast<uint8_t>((*text)[i]);
      if (first > 0xc3) fail_arguments(name);  // a character beyond Latin-1
      bytes += static_cast<char>(first < 0x80 ? first : (first & 3) << 6 | ((*text)[++i] & 0x3f));
    }
    return make(std::move(bytes));
  }

  PickleValue make_string(const std::string& name, const Items& arguments) {
    if (arguments.size() != 1 || !arguments[0].as_string()) fail_arguments(name);
    return arguments[0];
  }

  PickleValue make_path(const std::string& name, const Items& arguments) {
    std::string path;
    for (const auto& part : arguments) {
      const auto* text = part.as_string();
      if (!text) fail_arguments(name);
      charge(text->size() + 1);
      if (!path.empty() && !path.ends_with('/')) path += '/';
      path += *text;
    }
    return path.empty() ? "." : path;
  }

  PickleValue make_opaque(const std::string& name, const Items&) {
    return PickleValue::opaque(name, /*hashable=*/!name.starts_with("numpy."));
  }

  // (storage, offset, sizes, strides, requires_grad, backward_hooks[, dtype]); flags and hooks are of no use here.
  PickleValue make_tensor(const std::string& name, const Items& arguments) {
    const bool dtype_given = name.ends_with("_v3");
    const StoredTensor* storage = arguments.size() >= (dtype_given ? 7 : 4) ? arguments[0].as_tensor() : nullptr;
    if (!storage || !arguments[1].as_int()) fail_arguments(name);
    StoredTensor tensor{storage->storage, storage->dtype, *arguments[1].as_int(), {}, {}};
    if (dtype_given) {
      const auto dtype = dtype_called(&DTypeInfo::name, arguments[6].type_name());
      if (!dtype) fail_arguments(name);
      tensor.dtype = *dtype;
    }
    charge(2 * node_cost);
    tensor.sizes = dimensions(name, arguments[2]);
    tensor.strides = dimensions(name, arguments[3]);
    PickleValue result(std::move(tensor));
    const auto total = checked_add(tensor_bytes_, result.as_tensor()->nbytes());
    if (!total || *total > options_.tensor_limit)
      reader_.fail("has tensors far larger than the file, which no checkpoint needs; it was not loaded");
    tensor_bytes_ = *total;
    return result;
  }

  std::vector<int64_t> dimensions(const std::string& name, const PickleValue& sizes) {
    if (sizes.kind() != Kind::tuple || sizes.items().size() > 64) fail_arguments(name);
    charge(item_cost * sizes.items().size());
    std::vector<int64_t> result;
    for (const auto& size : sizes.items()) {
      if (!size.as_int()) fail_arguments(name);
      result.push_back(*size.as_int());
    }
    return result;
  }

  // (tensor, ...)
  PickleValue make_parameter(const std::string& name, const Items& arguments) {
    if (arguments.empty() || !arguments[0].as_tensor()) fail_arguments(name);
    return arguments[0];
  }

  // (function, class, arguments, state)
  PickleValue make_subclass(const std::string& name, const Items& arguments) {
    if (arguments.size() != 4 || arguments[0].type_name() == name) fail_arguments(name);
    return call(arguments[0], arguments[2]);
  }

  // (class, base, state)
  PickleValue make_object(const std::string& name, const Items& arguments) {
    if (arguments.size() != 3) fail_arguments(name);
    const std::string type(arguments[0].type_name());
    if (call_of(type) != &Unpickler::make_dict) refuse_call(arguments[0]);
    return make_dict(type, arguments[2].is_none() ? Items() : Items{arguments[2]});
  }

  PickleValue make_numpy_dtype(const std::string& name, const Items& arguments) {
    const auto* code = arguments.empty() ? nullptr : arguments[0].as_string();
    if (!code || code->size() > 64) fail_arguments(name);
    return PickleValue::opaque("numpy.dtype(" + *code + ")");
  }

  // (dtype, bytes)
  PickleValue make_numpy_scalar(const std::string&, const Items& arguments) {
    const auto* bytes = arguments.size() == 2 ? arguments[1].as_bytes() : nullptr;
    if (bytes && arguments[0].kind() == Kind::opaque)
      for (const auto& info : dtypes)
        if (!info.numpy_code.empty() &&
            arguments[0].type_name() == "numpy.dtype(" + std::string(info.numpy_code) + ")" &&
            bytes->size() == info.size)
          return number_of(info.numpy_code, *bytes);
    return PickleValue::opaque("numpy.scalar");
  }

  void build() {
    const PickleValue state = pop();
    PickleValue& target = top();
    if (target.identity() && target.identity() == state.identity())
      reader_.fail("gives an object itself as its state; the file is damaged");
    if (target.kind() == Kind::dict && target.type_name() == "argparse.Namespace" && state.kind() == Kind::dict)
      return add_entries(target, state);
    if (target.type_name().starts_with("numpy.dtype(") && state.items().size() > 1) {
      const auto* order = state.items()[1].as_string();
      if (order && *order == ">") reader_.fail("has big-endian numpy values, which are not supported");
    }
    // Any other state, such as a state dict's _metadata, is not needed.
    if (target.kind() != Kind::dict && target.kind() != Kind::opaque && target.kind() != Kind::tensor)
      reader_.fail("gives a state to " + std::string(target.kind_name()) + "; the file is damaged");
  }

  std::string_view text_from(size_t position) {
    const size_t at = reader_.position();
    reader_.seek(position);
    const auto text = reader_.take_text(reader_.remaining());
    reader_.seek(at);
    return text;
  }

  // Whether the global that was just read belongs to a torch.nn.Module: the members that every module has are in the
  // rest of the pickle. Where its class comes first, the legacy container has it behind "module".
  bool holds_a_module() {
    if (!stack_.empty() && !marks_.empty() && marks_.back() == stack_.size() - 1 && stack_.back().as_string() &&
        *stack_.back().as_string() == "module")
      return true;
    const auto rest = text_from(reader_.position());
    return std::ranges::all_of(std::array{"_parameters", "_buffers", "_modules"},
                               [&](std::string_view name) { return rest.find(name) != rest.npos; });
  }

  [[noreturn]] void refuse_global(std::string_view name, const std::string& asked) {
    using namespace std::string_view_literals;
    if (runs_code(name)) reader_.fail(asked + ", which no checkpoint needs; it was not run. Do not trust this file");
    if (!holds_a_module())
      reader_.fail(asked +
                   ", which is not plain data; no code of a file is run. Load it in PyTorch in a place you trust, and "
                   "save state_dict and hyper_parameters as plain values: dense tensors on the CPU, numbers, strings");
    // The key that a checkpoint has and a whole model has not, as BINUNICODE or SHORT_BINUNICODE of ten characters.
    const auto all = text_from(start_);
    if (all.find("X\x0a\0\0\0state_dict"sv) != all.npos || all.find("\x8c\x0astate_dict"sv) != all.npos)
      reader_.fail(
          "holds a module among its values: it " + asked +
          ", whose code is not run. Load it in PyTorch in a place you trust, and save it again with state_dict "
          "and hyper_parameters as plain values alone");
    reader_.fail(
        "holds a whole model and not only its weights: it " + asked +
        ", whose code is not run. Load it in PyTorch in a place you trust, and torch.save("
        "{\"state_dict\": model.state_dict(), \"hyper_parameters\": dict(embed_dim=..., ...)}, \"model.ckpt\")");
  }

  [[noreturn]] void refuse_call(const PickleValue& callable) {
    if (callable.kind() == Kind::opaque)
      refuse_global(callable.type_name(), "calls " + printable(callable.type_name()));
    reader_.fail("calls " + std::string(callable.kind_name()) + "; the file is damaged");
  }

  [[noreturn]] void fail_arguments(std::string_view name) {
    reader_.fail("has wrong arguments for " + printable(name) + " before " + here());
  }

  std::string here() const { return "byte " + std::to_string(reader_.position()); }

  ByteReader& reader_;
  const UnpickleOptions& options_;
  const size_t start_;
  Items stack_;
  std::vector<size_t> marks_;
  std::map<uint32_t, PickleValue> memo_;
  size_t highest_stack_ = 0;
  uint64_t charged_ = 0, tensor_bytes_ = 0;
};

}  // namespace

PickleValue unpickle(ByteReader& reader, const UnpickleOptions& options) {
  return Unpickler(reader, options).run();
}

std::optional<DType> storage_dtype(const PickleValue& storage_type) {
  return storage_type.kind() == Kind::opaque ? storage_called(storage_type.type_name()) : std::nullopt;
}

}  // namespace igpt::formats
