#include "igpt/formats/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <map>
#include <unordered_map>

#include "igpt/error.h"
#include "igpt/formats/checked.h"

namespace igpt::formats {
namespace {

using Kind = Value::Kind;

// The opcodes of Lib/pickletools.py that torch.save and its relatives write.
enum class Op : uint8_t {
  mark = '(',
  stop = '.',
  pop = '0',
  pop_mark = '1',
  dup = '2',
  text_float = 'F',
  text_int = 'I',
  binint = 'J',
  binint1 = 'K',
  text_long = 'L',
  binint2 = 'M',
  none = 'N',
  binpersid = 'Q',
  reduce = 'R',
  binstring = 'T',
  short_binstring = 'U',
  binunicode = 'X',
  append = 'a',
  build = 'b',
  global = 'c',
  dict = 'd',
  empty_dict = '}',
  appends = 'e',
  text_get = 'g',
  binget = 'h',
  inst = 'i',
  long_binget = 'j',
  list = 'l',
  empty_list = ']',
  text_put = 'p',
  binput = 'q',
  long_binput = 'r',
  setitem = 's',
  tuple = 't',
  empty_tuple = ')',
  setitems = 'u',
  binfloat = 'G',
  proto = 0x80,
  newobj = 0x81,
  tuple1 = 0x85,
  tuple2 = 0x86,
  tuple3 = 0x87,
  newtrue = 0x88,
  newfalse = 0x89,
  long1 = 0x8a,
  long4 = 0x8b,
  binbytes = 'B',
  short_binbytes = 'C',
  short_binunicode = 0x8c,
  binunicode8 = 0x8d,
  binbytes8 = 0x8e,
  empty_set = 0x8f,
  additems = 0x90,
  frozenset = 0x91,
  newobj_ex = 0x92,
  stack_global = 0x93,
  memoize = 0x94,
  frame = 0x95,
  bytearray8 = 0x96,
};

// What calling an allowed global means for the data.
enum class Meaning {
  name_only,  // it is never called
  dict,       // a dict of this type, maybe of the entries given
  list,
  set,
  frozenset,
  bytes,
  bytearray,
  text,
  path,
  tuple,  // of one argument, itself a tuple
  opaque,
  rebuild_tensor,
  rebuild_tensor_v3,
  first_argument,
  rebuild_from_type,
  reconstructor,
  numpy_dtype,
  numpy_scalar,
};

struct Global {
  std::string_view name;
  Meaning meaning;
};

// Everything that a checkpoint of torch.save or Lightning 0.8 to 2 may name, apart from dtypes, storages and the
// classes of Lightning's callbacks.
constexpr Global allowed_globals[] = {
    {"_codecs.encode", Meaning::bytes},
    {"argparse.Namespace", Meaning::dict},
    {"builtins.bool", Meaning::name_only},
    {"builtins.bytearray", Meaning::bytearray},
    {"builtins.bytes", Meaning::bytes},
    {"builtins.complex", Meaning::opaque},
    {"builtins.dict", Meaning::dict},
    {"builtins.float", Meaning::name_only},
    {"builtins.frozenset", Meaning::frozenset},
    {"builtins.int", Meaning::name_only},
    {"builtins.list", Meaning::list},
    {"builtins.object", Meaning::name_only},
    {"builtins.range", Meaning::opaque},
    {"builtins.set", Meaning::set},
    {"builtins.slice", Meaning::opaque},
    {"builtins.str", Meaning::name_only},
    {"builtins.tuple", Meaning::tuple},
    {"builtins.xrange", Meaning::opaque},
    {"collections.Counter", Meaning::dict},
    {"collections.OrderedDict", Meaning::dict},
    {"collections.defaultdict", Meaning::dict},
    {"collections.deque", Meaning::list},
    {"copyreg._reconstructor", Meaning::reconstructor},
    {"lightning_fabric.utilities.data.AttributeDict", Meaning::dict},
    {"numpy.core.multiarray._reconstruct", Meaning::opaque},
    {"numpy.core.multiarray.scalar", Meaning::numpy_scalar},
    {"numpy.core.numeric._frombuffer", Meaning::opaque},
    {"numpy.dtype", Meaning::numpy_dtype},
    {"numpy.ndarray", Meaning::opaque},
    {"pathlib.Path", Meaning::path},
    {"pathlib.PosixPath", Meaning::path},
    {"pathlib.PurePath", Meaning::path},
    {"pathlib.PurePosixPath", Meaning::path},
    {"pathlib.PureWindowsPath", Meaning::path},
    {"pathlib.WindowsPath", Meaning::path},
    {"pytorch_lightning.utilities.parsing.AttributeDict", Meaning::dict},
    {"torch.Size", Meaning::tuple},
    {"torch.Tensor", Meaning::name_only},
    {"torch._tensor._rebuild_from_type_v2", Meaning::rebuild_from_type},
    {"torch._utils._rebuild_parameter", Meaning::first_argument},
    {"torch._utils._rebuild_parameter_with_state", Meaning::first_argument},
    {"torch._utils._rebuild_tensor", Meaning::rebuild_tensor},
    {"torch._utils._rebuild_tensor_v2", Meaning::rebuild_tensor},
    {"torch._utils._rebuild_tensor_v3", Meaning::rebuild_tensor_v3},
    {"torch.device", Meaning::opaque},
    {"torch.nn.parameter.Buffer", Meaning::first_argument},
    {"torch.nn.parameter.Parameter", Meaning::first_argument},
    {"torch.torch_version.TorchVersion", Meaning::text},
};

constexpr std::pair<std::string_view, DType> storage_classes[] = {
    {"DoubleStorage", DType::float64},
    {"FloatStorage", DType::float32},
    {"HalfStorage", DType::float16},
    {"BFloat16Storage", DType::bfloat16},
    {"ComplexDoubleStorage", DType::complex128},
    {"ComplexFloatStorage", DType::complex64},
    {"LongStorage", DType::int64},
    {"IntStorage", DType::int32},
    {"ShortStorage", DType::int16},
    {"CharStorage", DType::int8},
    {"ByteStorage", DType::uint8},
    {"BoolStorage", DType::boolean},
    {"UntypedStorage", DType::uint8},
    {"_UntypedStorage", DType::uint8},
};

// Modules that moved or were renamed, to the name used above.
constexpr std::pair<std::string_view, std::string_view> renamed_modules[] = {
    {"__builtin__", "builtins"},
    {"copy_reg", "copyreg"},
    {"lightning.fabric", "lightning_fabric"},
    {"lightning.pytorch", "pytorch_lightning"},
    {"numpy._core", "numpy.core"},
    {"pathlib._local", "pathlib"},
    {"torch.cuda", "torch"},
    {"torch.storage", "torch"},
};

std::string canonical_name(std::string_view module, std::string_view name) {
  std::string result(module);
  for (const auto& [old_name, new_name] : renamed_modules)
    if (module == old_name || (module.starts_with(old_name) && module[old_name.size()] == '.'))
      result = std::string(new_name) + std::string(module.substr(old_name.size()));
  return result + "." + std::string(name);
}

std::optional<DType> dtype_called(std::string_view name) {
  constexpr std::string_view prefix = "torch.";
  return name.starts_with(prefix) ? dtype_named(name.substr(prefix.size())) : std::nullopt;
}

std::optional<DType> storage_called(std::string_view name) {
  constexpr std::string_view prefix = "torch.";
  if (!name.starts_with(prefix)) return std::nullopt;
  for (const auto& [class_name, dtype] : storage_classes)
    if (class_name == name.substr(prefix.size())) return dtype;
  return std::nullopt;
}

std::optional<Meaning> meaning_of(std::string_view name) {
  for (const auto& global : allowed_globals)
    if (global.name == name) return global.meaning;
  const bool plain_name = dtype_called(name) || storage_called(name) || name == "torch.TypedStorage" ||
                          name == "torch._TypedStorage" || name.starts_with("pytorch_lightning.callbacks.");
  return plain_name ? std::optional(Meaning::name_only) : std::nullopt;
}

// Modules by which a pickle runs commands, opens files or loads other code, and Python's own functions for it.
constexpr std::string_view running_modules[] = {"_pickle", "ctypes", "importlib",  "marshal", "nt",
                                                "os",      "pickle", "posix",      "pty",     "runpy",
                                                "shutil",  "socket", "subprocess", "sys",     "timeit"};
constexpr std::string_view running_builtins[] = {"__import__", "apply",   "breakpoint", "compile", "delattr",
                                                 "eval",       "exec",    "execfile",   "globals", "input",
                                                 "open",       "setattr", "vars"};

// Whether nothing but an attack names it in a checkpoint. A dotted name goes on from a module to others, such as
// torch.serialization.os.system.
bool runs_code(std::string_view name) {
  constexpr std::string_view builtins = "builtins.";
  if (name.starts_with(builtins))
    return std::ranges::find(running_builtins, name.substr(builtins.size())) != std::end(running_builtins);
  if (std::ranges::find(running_modules, name.substr(0, name.find('.'))) != std::end(running_modules)) return true;
  for (const std::string_view part : {".os.", ".posix.", ".subprocess.", ".sys.", ".builtins.", ".__builtins__."})
    if (name.find(part) != std::string_view::npos) return true;
  return false;
}

// Length of the UTF-8 sequence that `text` begins with (RFC 3629, section 4); 0 where it is none.
size_t utf8_length(std::string_view text, bool surrogates) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
  const auto first = byte(0), second = byte(1);
  const auto follows = [&](size_t i) { return byte(i) >= 0x80 && byte(i) < 0xc0; };
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4 || !follows(1)) return 0;
  if (first < 0xe0) return 2;
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool surrogate = first == 0xed && second >= 0xa0;
  if (overlong || (surrogate && !surrogates) || (first == 0xf4 && second >= 0x90) || !follows(2)) return 0;
  if (first < 0xf0) return 3;
  return follows(3) ? 4 : 0;
}

bool is_utf8(std::string_view text, bool surrogates) {
  while (!text.empty()) {
    const size_t length = utf8_length(text, surrogates);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

// numpy's names of the element types of its scalars.
constexpr std::pair<std::string_view, DType> numpy_dtypes[] = {
    {"b1", DType::boolean}, {"i1", DType::int8},    {"i2", DType::int16},   {"i4", DType::int32},
    {"i8", DType::int64},   {"u1", DType::uint8},   {"u2", DType::uint16},  {"u4", DType::uint32},
    {"u8", DType::uint64},  {"f2", DType::float16}, {"f4", DType::float32}, {"f8", DType::float64},
};

// Upper bounds of what one thing costs in memory, bytes, with the allocator's share.
constexpr uint64_t node_cost = 160, item_cost = 72, entry_cost = 240, memo_cost = 96;

class Unpickler {
 public:
  Unpickler(ByteReader& reader, const UnpickleOptions& options)
      : reader_(reader), options_(options), start_(reader.position()) {}

  Value run();

 private:
  bool read_number(Op op);
  bool read_text(Op op);
  bool read_container(Op op);
  bool read_stack_or_memo(Op op);
  bool read_object(Op op);

  void charge(uint64_t bytes);
  template <class Make>
  auto held(Make make);
  void push(Value value);
  Value pop();
  Value& top();
  std::vector<Value> pop_to_mark();
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  void push_text(Kind kind, std::string_view text);
  void push_string(std::string_view text, bool surrogates);
  void push_sequence(Kind kind, std::vector<Value> items);
  void push_tuple(size_t count);
  void push_long(std::string_view digits);
  template <class T>
  T parsed_line();
  void append(std::vector<Value> items);
  void set_items(std::vector<Value> keys_and_values);
  void memoize(uint32_t index);
  void recall(uint32_t index);

  void push_global(std::string_view module, std::string_view name);
  Value call(const Value& callable, const Value& arguments);
  Value make_dict(std::string type, const std::vector<Value>& arguments);
  template <class Make>
  Value make_sequence(const std::vector<Value>& arguments, Make make);
  std::string make_bytes(const std::vector<Value>& arguments);
  Value make_path(const std::vector<Value>& arguments);
  Value make_scalar(const std::vector<Value>& arguments);
  Value number_of(DType dtype, const std::string& bytes);
  Value rebuild_tensor(const std::vector<Value>& arguments, bool dtype_given);
  std::vector<int64_t> dimensions(const Value& sizes);
  void build(const Value& state);
  void add_entry(Value& dict, const Value& key, Value value);
  bool holds_a_module();
  bool names_a_state_dict();
  [[noreturn]] void refuse_global(std::string_view name, const std::string& asked);
  [[noreturn]] void refuse_call(const Value& callable);
  [[noreturn]] void fail_arguments(std::string_view name);

  ByteReader& reader_;
  const UnpickleOptions& options_;
  const size_t start_;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;
  std::map<uint32_t, Value> memo_;
  size_t highest_stack_ = 0;
  uint64_t charged_ = 0, tensor_bytes_ = 0;
};

Value Unpickler::run() {
  for (;;) {
    const size_t at = reader_.position();
    const auto op = static_cast<Op>(reader_.u8());
    if (op == Op::stop) break;
    if (read_number(op) || read_text(op) || read_container(op) || read_stack_or_memo(op) || read_object(op)) continue;
    reader_.fail("is no pickle of torch.save: opcode " + std::to_string(static_cast<int>(op)) + " at byte " +
                 std::to_string(at));
  }
  if (stack_.size() != 1 || !marks_.empty()) reader_.fail("ends with other than one value; the file is damaged");
  return pop();
}

void Unpickler::charge(uint64_t bytes) {
  charged_ += bytes;
  if (charged_ > options_.memory_limit + (reader_.position() - start_))
    reader_.fail("describes more values than any checkpoint needs; it was not loaded");
}

// Value's own refusals (nesting, containers that change, tensors outside their storage) with the place.
template <class Make>
auto Unpickler::held(Make make) {
  try {
    return make();
  } catch (const InputError& error) {
    reader_.fail("holds " + std::string(error.what()) + " (byte " + std::to_string(reader_.position()) + ")");
  }
}

void Unpickler::push(Value value) {
  if (stack_.size() == highest_stack_) {
    charge(item_cost);
    ++highest_stack_;
  }
  stack_.push_back(std::move(value));
}

Value& Unpickler::top() {
  if (stack_.size() <= floor())
    reader_.fail("takes a value that is not there at byte " + std::to_string(reader_.position()) +
                 "; the file is damaged");
  return stack_.back();
}

Value Unpickler::pop() {
  Value value = std::move(top());
  stack_.pop_back();
  return value;
}

std::vector<Value> Unpickler::pop_to_mark() {
  if (marks_.empty())
    reader_.fail("takes values that are not there at byte " + std::to_string(reader_.position()) +
                 "; the file is damaged");
  const auto first = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
  charge(item_cost * static_cast<uint64_t>(stack_.end() - first));
  std::vector<Value> values(std::make_move_iterator(first), std::make_move_iterator(stack_.end()));
  stack_.erase(first, stack_.end());
  marks_.pop_back();
  return values;
}

template <class T>
T Unpickler::parsed_line() {
  auto text = reader_.line(/*limit=*/64);
  if (text.ends_with('L')) text.remove_suffix(1);
  T value{};
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size())
    reader_.fail("has no number where one should be, before byte " + std::to_string(reader_.position()));
  return value;
}

bool Unpickler::read_number(Op op) {
  switch (op) {
    case Op::none:
      return push(Value()), true;
    case Op::newtrue:
      return push(true), true;
    case Op::newfalse:
      return push(false), true;
    case Op::binint:
      return push(reader_.i32()), true;
    case Op::binint1:
      return push(reader_.u8()), true;
    case Op::binint2:
      return push(reader_.u16()), true;
    case Op::binfloat:
      return push(reader_.f64_be()), true;
    case Op::long1:
      return push_long(reader_.take_text(reader_.u8())), true;
    case Op::long4:
      return push_long(reader_.take_text(reader_.u32())), true;
    case Op::text_long:
      return push(parsed_line<int64_t>()), true;
    case Op::text_float:
      return push(parsed_line<double>()), true;
    case Op::text_int: {
      const size_t at = reader_.position();
      const auto text = reader_.line(/*limit=*/64);
      if (text == "00" || text == "01") return push(text == "01"), true;
      reader_.seek(at);
      return push(parsed_line<int64_t>()), true;
    }
    default:
      return false;
  }
}

// Little-endian two's complement of any length.
void Unpickler::push_long(std::string_view digits) {
  if (digits.size() > sizeof(int64_t)) return push_text(Kind::big_integer, digits);
  uint64_t value = !digits.empty() && (digits.back() & 0x80) ? UINT64_MAX : 0;
  std::memcpy(&value, digits.data(), digits.size());
  push(std::bit_cast<int64_t>(value));
}

void Unpickler::push_text(Kind kind, std::string_view text) {
  charge(node_cost + text.size());
  if (kind == Kind::bytes) return push(Value::bytes(std::string(text)));
  push(kind == Kind::string ? Value(text) : Value::big_integer(std::string(text)));
}

// Python writes a str's lone surrogates, which UTF-8 proper has not; those of Python 2, bytes, torch.load decodes
// strictly.
void Unpickler::push_string(std::string_view text, bool surrogates) {
  if (!is_utf8(text, surrogates))
    reader_.fail("has text that is not UTF-8 before byte " + std::to_string(reader_.position()) +
                 ", which torch.load refuses; the file is damaged, or Python 2 wrote it");
  push_text(Kind::string, text);
}

bool Unpickler::read_text(Op op) {
  switch (op) {
    case Op::short_binstring:
      return push_string(reader_.take_text(reader_.u8()), /*surrogates=*/false), true;
    case Op::binstring:
      return push_string(reader_.take_text(reader_.u32()), /*surrogates=*/false), true;
    case Op::short_binunicode:
      return push_string(reader_.take_text(reader_.u8()), /*surrogates=*/true), true;
    case Op::binunicode:
      return push_string(reader_.take_text(reader_.u32()), /*surrogates=*/true), true;
    case Op::binunicode8:
      return push_string(reader_.take_text(reader_.u64()), /*surrogates=*/true), true;
    case Op::short_binbytes:
      return push_text(Kind::bytes, reader_.take_text(reader_.u8())), true;
    case Op::binbytes:
      return push_text(Kind::bytes, reader_.take_text(reader_.u32())), true;
    case Op::binbytes8:
      return push_text(Kind::bytes, reader_.take_text(reader_.u64())), true;
    case Op::bytearray8: {
      const auto bytes = reader_.take_text(reader_.u64());
      charge(node_cost + bytes.size());
      return push(Value::bytearray(std::string(bytes))), true;
    }
    default:
      return false;
  }
}

void Unpickler::push_sequence(Kind kind, std::vector<Value> items) {
  charge(node_cost);
  push(held([&] {
    if (kind == Kind::tuple) return Value::tuple(std::move(items));
    return kind == Kind::list ? Value::list(std::move(items)) : Value::set(std::move(items));
  }));
}

void Unpickler::push_tuple(size_t count) {
  charge(count * item_cost);
  std::vector<Value> items(count);
  for (size_t i = count; i-- > 0;) items[i] = pop();
  push_sequence(Kind::tuple, std::move(items));
}

void Unpickler::append(std::vector<Value> items) {
  Value& target = top();
  held([&] {
    for (auto& item : items) target.push(std::move(item));
    return true;
  });
}

// No pickler writes a key twice. Which of the two values counts would be a matter of the reader.
void Unpickler::add_entry(Value& dict, const Value& key, Value value) {
  if (dict.insert(key, std::move(value))) return;
  const auto* text = key.as_string();
  throw InputError("two entries of the key " + (text ? printable(*text) : std::to_string(*key.as_int())) +
                   ", which contradict each other");
}

void Unpickler::set_items(std::vector<Value> keys_and_values) {
  if (keys_and_values.size() % 2) reader_.fail("has a key without a value; the file is damaged");
  charge(keys_and_values.size() / 2 * entry_cost);
  Value& target = top();
  held([&] {
    for (size_t i = 0; i < keys_and_values.size(); i += 2)
      add_entry(target, keys_and_values[i], std::move(keys_and_values[i + 1]));
    return true;
  });
}

bool Unpickler::read_container(Op op) {
  switch (op) {
    case Op::empty_tuple:
      return push_tuple(0), true;
    case Op::tuple1:
      return push_tuple(1), true;
    case Op::tuple2:
      return push_tuple(2), true;
    case Op::tuple3:
      return push_tuple(3), true;
    case Op::tuple:
      return push_sequence(Kind::tuple, pop_to_mark()), true;
    case Op::empty_list:
      return push_sequence(Kind::list, {}), true;
    case Op::list:
      return push_sequence(Kind::list, pop_to_mark()), true;
    case Op::empty_set:
      return push_sequence(Kind::set, {}), true;
    case Op::frozenset:
      charge(node_cost);
      return push(held([&] { return Value::frozenset(pop_to_mark()); })), true;
    case Op::append:
      charge(item_cost);
      return append({pop()}), true;
    case Op::appends:
    case Op::additems:
      return append(pop_to_mark()), true;
    case Op::empty_dict:
    case Op::dict: {
      auto entries = op == Op::dict ? pop_to_mark() : std::vector<Value>();
      charge(node_cost);
      push(Value::dict());
      return set_items(std::move(entries)), true;
    }
    case Op::setitem: {
      Value value = pop(), key = pop();
      return set_items({std::move(key), std::move(value)}), true;
    }
    case Op::setitems:
      return set_items(pop_to_mark()), true;
    default:
      return false;
  }
}

void Unpickler::memoize(uint32_t index) {
  charge(memo_cost);
  memo_[index] = top();
}

void Unpickler::recall(uint32_t index) {
  const auto found = memo_.find(index);
  if (found == memo_.end())
    reader_.fail("recalls value " + std::to_string(index) + ", which it did not store; the file is damaged");
  push(found->second);
}

bool Unpickler::read_stack_or_memo(Op op) {
  switch (op) {
    case Op::proto:
      if (const int protocol = reader_.u8(); protocol > 5)
        reader_.fail("is of pickle protocol " + std::to_string(protocol) + ", the newest known is 5");
      return true;
    case Op::frame:
      if (reader_.u64() > reader_.remaining()) reader_.fail("has a frame that is longer than the file");
      return true;
    case Op::mark:
      charge(item_cost);
      return marks_.push_back(stack_.size()), true;
    case Op::pop:
      if (!marks_.empty() && marks_.back() == stack_.size()) return marks_.pop_back(), true;
      return pop(), true;
    case Op::pop_mark:
      return pop_to_mark(), true;
    case Op::dup:
      return push(Value(top())), true;
    case Op::binput:
      return memoize(reader_.u8()), true;
    case Op::long_binput:
      return memoize(reader_.u32()), true;
    case Op::text_put:
      return memoize(parsed_line<uint32_t>()), true;
    case Op::memoize:
      return memoize(static_cast<uint32_t>(memo_.size())), true;
    case Op::binget:
      return recall(reader_.u8()), true;
    case Op::long_binget:
      return recall(reader_.u32()), true;
    case Op::text_get:
      return recall(parsed_line<uint32_t>()), true;
    default:
      return false;
  }
}

bool Unpickler::read_object(Op op) {
  switch (op) {
    case Op::global:
    case Op::inst: {
      const auto module = reader_.line(/*limit=*/256), name = reader_.line(/*limit=*/256);
      push_global(module, name);
      // INST would also call what it names; it is Python 2's and no file of torch.save has it.
      if (op == Op::inst) refuse_call(Value::opaque(canonical_name(module, name)));
      return true;
    }
    case Op::stack_global: {
      const Value name = pop(), module = pop();
      if (!name.as_string() || !module.as_string()) reader_.fail("names a global by other than strings");
      return push_global(*module.as_string(), *name.as_string()), true;
    }
    case Op::reduce:
    case Op::newobj: {
      const Value arguments = pop(), callable = pop();
      return push(call(callable, arguments)), true;
    }
    case Op::newobj_ex: {
      const Value named = pop(), arguments = pop(), callable = pop();
      if (named.kind() != Kind::dict || !named.entries().empty()) fail_arguments(callable.type_name());
      return push(call(callable, arguments)), true;
    }
    case Op::build: {
      const Value state = pop();
      return build(state), true;
    }
    case Op::binpersid: {
      const Value id = pop();
      if (!options_.persistent_load) reader_.fail("refers to storages where there are none");
      charge(2 * node_cost);
      return push(options_.persistent_load(id)), true;
    }
    default:
      return false;
  }
}

void Unpickler::push_global(std::string_view module, std::string_view name) {
  const auto known_as = canonical_name(module.substr(0, 256), name.substr(0, 256));
  if (!meaning_of(known_as))
    refuse_global(known_as, "asks for " + printable(std::string(module) + "." + std::string(name)));
  charge(node_cost + known_as.size());
  push(Value::opaque(known_as));
}

// What torch.nn.Module keeps in each object is in the rest of the pickle; where its class comes first, the legacy
// container has it behind "module".
bool Unpickler::holds_a_module() {
  if (!stack_.empty() && !marks_.empty() && marks_.back() == stack_.size() - 1 && stack_.back().as_string() &&
      *stack_.back().as_string() == "module")
    return true;
  const size_t at = reader_.position();
  const auto rest = reader_.take_text(reader_.remaining());
  reader_.seek(at);
  return std::ranges::all_of(std::array{"_parameters", "_buffers", "_modules"},
                             [&](std::string_view name) { return rest.find(name) != std::string_view::npos; });
}

// The key of a checkpoint's dict, which a whole model has not: BINUNICODE or SHORT_BINUNICODE of ten characters.
bool Unpickler::names_a_state_dict() {
  const size_t at = reader_.position();
  reader_.seek(start_);
  const auto all = reader_.take_text(reader_.remaining());
  reader_.seek(at);
  using namespace std::string_view_literals;
  return all.find("X\x0a\0\0\0state_dict"sv) != all.npos || all.find("\x8c\x0astate_dict"sv) != all.npos;
}

void Unpickler::refuse_global(std::string_view name, const std::string& asked) {
  if (runs_code(name)) reader_.fail(asked + ", which no checkpoint needs; it was not run. Do not trust this file");
  const bool module = holds_a_module();
  if (module && names_a_state_dict())
    reader_.fail("holds a module among its values: it " + asked +
                 ", whose code is not run. Load it in PyTorch in a place you trust, and save it again with state_dict "
                 "and hyper_parameters as plain values alone");
  if (module)
    reader_.fail(
        "holds a whole model and not only its weights: it " + asked +
        ", whose code is not run. Load it in PyTorch in a place you trust, and torch.save("
        "{\"state_dict\": model.state_dict(), \"hyper_parameters\": dict(embed_dim=..., ...)}, \"model.ckpt\")");
  reader_.fail(asked +
               ", which is not plain data; no code of a file is run. Load it in PyTorch in a place you trust, and save "
               "state_dict and hyper_parameters as plain values: dense tensors on the CPU, numbers, strings");
}

void Unpickler::refuse_call(const Value& callable) {
  if (callable.kind() == Kind::opaque) refuse_global(callable.type_name(), "calls " + printable(callable.type_name()));
  reader_.fail("calls " + std::string(callable.kind_name()) + "; the file is damaged");
}

void Unpickler::fail_arguments(std::string_view name) {
  reader_.fail("has wrong arguments for " + printable(name) + " before byte " + std::to_string(reader_.position()));
}

Value Unpickler::call(const Value& callable, const Value& arguments) {
  const std::string name(callable.type_name());
  if (callable.kind() != Kind::opaque) refuse_call(callable);
  if (arguments.kind() != Kind::tuple) fail_arguments(name);
  const auto& values = arguments.items();
  charge(node_cost + name.size());
  const Meaning meaning = meaning_of(name).value_or(Meaning::name_only);
  switch (meaning) {
    case Meaning::name_only:
      refuse_call(callable);
    case Meaning::dict:
      return make_dict(name, values);
    case Meaning::list:
      return make_sequence(values, &Value::list);
    case Meaning::set:
    case Meaning::frozenset:
      return make_sequence(values, [&](auto items) {
        return meaning == Meaning::set ? Value::set(std::move(items)) : Value::frozenset(std::move(items));
      });
    case Meaning::bytes:
      return Value::bytes(make_bytes(values));
    case Meaning::bytearray:
      return Value::bytearray(make_bytes(values));
    case Meaning::path:
      return make_path(values);
    case Meaning::numpy_scalar:
      return make_scalar(values);
    case Meaning::opaque:
      return Value::opaque(name, /*hashable=*/!name.starts_with("numpy."));
    case Meaning::rebuild_tensor:
      return rebuild_tensor(values, /*dtype_given=*/false);
    case Meaning::rebuild_tensor_v3:
      return rebuild_tensor(values, /*dtype_given=*/true);
    case Meaning::tuple:
      if (values.size() == 1 && values[0].kind() == Kind::tuple) return values[0];
      return make_sequence(values, &Value::tuple);
    case Meaning::text:
      if (values.size() != 1 || !values[0].as_string()) fail_arguments(name);
      return values[0];
    case Meaning::first_argument:
      if (values.empty() || !values[0].as_tensor()) fail_arguments(name);
      return values[0];
    case Meaning::rebuild_from_type:  // (function, class, arguments, state)
      if (values.size() != 4 || values[0].type_name() == name) fail_arguments(name);
      return call(values[0], values[2]);
    case Meaning::reconstructor:  // (class, base, state)
      if (values.size() != 3 || meaning_of(values[0].type_name()) != Meaning::dict)
        refuse_call(values.size() == 3 ? values[0] : callable);
      return make_dict(std::string(values[0].type_name()),
                       values[2].is_none() ? std::vector<Value>() : std::vector<Value>{values[2]});
    case Meaning::numpy_dtype:
      if (values.empty() || !values[0].as_string() || values[0].as_string()->size() > 64) fail_arguments(name);
      return Value::opaque("numpy.dtype(" + *values[0].as_string() + ")");
  }
  refuse_call(callable);
}

// dict(), dict(mapping), dict([(key, value), ...]), defaultdict(factory).
Value Unpickler::make_dict(std::string type, const std::vector<Value>& arguments) {
  const bool factory_first = type == "collections.defaultdict";
  Value result = Value::dict_of_type(type);
  if (arguments.size() > (factory_first ? 2 : 1)) fail_arguments(type);
  if (arguments.size() == (factory_first ? 1 : 0)) return result;
  if (arguments.empty()) return result;
  const Value& content = arguments.back();
  if (content.kind() != Kind::dict && content.kind() != Kind::list) fail_arguments(type);
  charge(entry_cost * (content.entries().size() + content.items().size()));
  for (const auto& pair : content.items())
    if (pair.items().size() != 2) fail_arguments(type);
  return held([&] {
    for (const auto& [key, value] : content.entries()) add_entry(result, key, value);
    for (const auto& pair : content.items()) add_entry(result, pair.items()[0], pair.items()[1]);
    return result;
  });
}

// set([...]), deque([...], maxlen).
template <class Make>
Value Unpickler::make_sequence(const std::vector<Value>& arguments, Make make) {
  const auto items = arguments.empty() ? std::vector<Value>() : arguments[0].items();
  if (!arguments.empty() && arguments[0].identity() == nullptr) fail_arguments("a container");
  charge(item_cost * items.size());
  return held([&] { return make(items); });
}

// encode(text, "latin1"): how protocol 2 writes bytes.
std::string Unpickler::make_bytes(const std::vector<Value>& arguments) {
  if (arguments.empty()) return "";
  if (const auto* bytes = arguments[0].as_bytes()) {
    charge(bytes->size());
    return *bytes;
  }
  const auto* text = arguments[0].as_string();
  const auto* encoding = arguments.size() > 1 ? arguments[1].as_string() : nullptr;
  if (!text || !encoding || (*encoding != "latin1" && *encoding != "latin-1")) fail_arguments("_codecs.encode");
  charge(text->size());
  std::string bytes;
  for (size_t i = 0; i < text->size(); ++i) {
    const auto first = static_cast<uint8_t>((*text)[i]);
    if (first < 0x80) {
      bytes += static_cast<char>(first);
    } else if ((first == 0xc2 || first == 0xc3) && i + 1 < text->size()) {
      bytes += static_cast<char>((first & 3) << 6 | (static_cast<uint8_t>((*text)[++i]) & 0x3f));
    } else {
      fail_arguments("_codecs.encode");
    }
  }
  return bytes;
}

Value Unpickler::make_path(const std::vector<Value>& arguments) {
  std::string path;
  for (const auto& part : arguments) {
    const auto* text = part.as_string();
    if (!text) fail_arguments("pathlib.Path");
    charge(text->size() + 1);
    if (!path.empty() && !path.ends_with('/')) path += '/';
    path += *text;
  }
  return Value(path.empty() ? "." : path);
}

// numpy's scalars are written as (dtype, bytes).
Value Unpickler::make_scalar(const std::vector<Value>& arguments) {
  const auto* bytes = arguments.size() == 2 ? arguments[1].as_bytes() : nullptr;
  if (!bytes || arguments[0].kind() != Kind::opaque) return Value::opaque("numpy.scalar");
  for (const auto& [name, dtype] : numpy_dtypes)
    if (arguments[0].type_name() == "numpy.dtype(" + std::string(name) + ")" && bytes->size() == element_size(dtype))
      return number_of(dtype, *bytes);
  return Value::opaque("numpy.scalar");
}

Value Unpickler::number_of(DType dtype, const std::string& bytes) {
  const auto begin = reinterpret_cast<const std::byte*>(bytes.data());
  const Value number = Value::tensor(dtype, {}, std::vector<std::byte>(begin, begin + bytes.size()));
  if (dtype_name(dtype).starts_with("float")) return to_vector<double>(*number.as_tensor())[0];
  if (dtype == DType::boolean) return bytes[0] != 0;
  if (dtype == DType::uint64 && (bytes.back() & 0x80)) return Value::big_integer(bytes + '\0');
  return to_vector<int64_t>(*number.as_tensor())[0];
}

std::vector<int64_t> Unpickler::dimensions(const Value& sizes) {
  if (sizes.kind() != Kind::tuple || sizes.items().size() > 64) fail_arguments("a tensor");
  charge(item_cost * sizes.items().size());
  std::vector<int64_t> result;
  for (const auto& size : sizes.items()) {
    if (!size.as_int()) fail_arguments("a tensor");
    result.push_back(*size.as_int());
  }
  return result;
}

// (storage, offset, sizes, strides, requires_grad, backward_hooks[, dtype]); flags and hooks are of no use here.
Value Unpickler::rebuild_tensor(const std::vector<Value>& arguments, bool dtype_given) {
  const Tensor* storage = arguments.size() >= (dtype_given ? 7 : 4) ? arguments[0].as_tensor() : nullptr;
  if (!storage || !arguments[1].as_int()) fail_arguments("a tensor");
  Tensor tensor{storage->storage, storage->dtype, *arguments[1].as_int(), {}, {}};
  if (dtype_given) {
    const auto dtype = dtype_called(arguments[6].type_name());
    if (!dtype) fail_arguments("a tensor");
    tensor.dtype = *dtype;
  }
  charge(2 * node_cost);
  tensor.sizes = dimensions(arguments[2]);
  tensor.strides = dimensions(arguments[3]);
  Value result = held([&] { return Value(std::move(tensor)); });
  const auto total = checked_add(tensor_bytes_, result.as_tensor()->nbytes());
  if (!total || *total > options_.tensor_limit)
    reader_.fail("has tensors far larger than the file, which no checkpoint needs; it was not loaded");
  tensor_bytes_ = *total;
  return result;
}

void Unpickler::build(const Value& state) {
  Value& target = top();
  if (target.is_same_object(state)) reader_.fail("gives an object itself as its state; the file is damaged");
  if (target.kind() == Kind::dict && target.type_name() == "argparse.Namespace" && state.kind() == Kind::dict) {
    charge(entry_cost * state.entries().size());
    held([&] {
      for (const auto& [key, value] : state.entries()) add_entry(target, key, value);
      return true;
    });
    return;
  }
  if (target.type_name().starts_with("numpy.dtype(") && state.items().size() > 1) {
    const auto* order = state.items()[1].as_string();
    if (order && *order == ">") reader_.fail("has big-endian numpy values, which are not supported");
  }
  // What else an object carries (a state dict's _metadata) is not needed.
  if (target.kind() != Kind::dict && target.kind() != Kind::opaque && target.kind() != Kind::tensor)
    reader_.fail("gives a state to " + std::string(target.kind_name()) + "; the file is damaged");
}

}  // namespace

Value unpickle(ByteReader& reader, const UnpickleOptions& options) {
  return Unpickler(reader, options).run();
}

std::optional<DType> storage_dtype(const Value& storage_type) {
  return storage_type.kind() == Kind::opaque ? storage_called(storage_type.type_name()) : std::nullopt;
}

namespace {

class Pickler {
 public:
  explicit Pickler(std::vector<std::shared_ptr<const Storage>>& storages) : storages_(storages) {}

  std::string run(const Value& root) {
    emit(Op::proto);
    out_ += '\2';
    write(root);
    emit(Op::stop);
    return std::move(out_);
  }

 private:
  void emit(Op op) { out_ += static_cast<char>(op); }
  template <class T>
  void emit_number(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }

  void write(const Value& value);
  void write_integer(int64_t value);
  void write_float(double value);
  void write_string(const std::string& text);
  void write_bytes(const std::string& bytes);
  void write_sequence(const Value& value);
  void write_dict(const Value& value);
  void write_tensor(const Tensor& tensor);
  void write_storage(const Tensor& tensor, bool typed);
  void write_dimensions(const std::vector<int64_t>& sizes);
  void write_global(const std::string& module, const std::string& name);
  void write_ordered_dict();
  void put();
  void get(uint32_t index);

  std::vector<std::shared_ptr<const Storage>>& storages_;
  std::string out_;
  uint32_t memoized_ = 0;
  std::unordered_map<const void*, uint32_t> values_;
  std::unordered_map<std::string, uint32_t> strings_, globals_;
  std::unordered_map<const Storage*, std::pair<size_t, DType>> keys_;
};

void Pickler::put() {
  const uint32_t index = memoized_++;
  if (index < 256) {
    emit(Op::binput);
    return emit_number(static_cast<uint8_t>(index));
  }
  emit(Op::long_binput);
  emit_number(index);
}

void Pickler::get(uint32_t index) {
  if (index < 256) {
    emit(Op::binget);
    return emit_number(static_cast<uint8_t>(index));
  }
  emit(Op::long_binget);
  emit_number(index);
}

void Pickler::write(const Value& value) {
  switch (value.kind()) {
    case Kind::none:
      return emit(Op::none);
    case Kind::boolean:
      return emit(*value.as_bool() ? Op::newtrue : Op::newfalse);
    case Kind::integer:
      return write_integer(*value.as_int());
    case Kind::floating:
      return write_float(*value.as_double());
    case Kind::string:
      return write_string(*value.as_string());
    case Kind::bytes:
      return write_bytes(*value.as_bytes());
    case Kind::set:
    case Kind::big_integer:
    case Kind::opaque:
      throw Error("a checkpoint of ours cannot hold " + std::string(value.kind_name()));
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
    case Kind::tensor:
      break;
  }
  if (const auto known = values_.find(value.identity()); known != values_.end()) return get(known->second);
  if (value.kind() == Kind::dict) return write_dict(value);
  if (value.kind() != Kind::tensor) return write_sequence(value);
  write_tensor(*value.as_tensor());
  values_.emplace(value.identity(), memoized_);
  put();
}

void Pickler::write_integer(int64_t value) {
  if (value >= 0 && value < 256) {
    emit(Op::binint1);
    return emit_number(static_cast<uint8_t>(value));
  }
  if (std::in_range<int32_t>(value)) {
    emit(Op::binint);
    return emit_number(static_cast<int32_t>(value));
  }
  emit(Op::long1);
  emit_number(uint8_t{sizeof(value)});
  emit_number(value);
}

void Pickler::write_float(double value) {
  emit(Op::binfloat);
  emit_number(__builtin_bswap64(std::bit_cast<uint64_t>(value)));
}

void Pickler::write_string(const std::string& text) {
  if (const auto known = strings_.find(text); known != strings_.end()) return get(known->second);
  if (!std::in_range<uint32_t>(text.size())) throw Error("a string of 4 GiB or more in a checkpoint");
  emit(Op::binunicode);
  emit_number(static_cast<uint32_t>(text.size()));
  out_ += text;
  strings_.emplace(text, memoized_);
  put();
}

// Protocol 2 has no bytes: encode(text, "latin1").
void Pickler::write_bytes(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    const auto code = static_cast<uint8_t>(c);
    if (code >= 0x80) text += static_cast<char>(0xc0 | code >> 6);
    text += static_cast<char>(code >= 0x80 ? 0x80 | (code & 0x3f) : code);
  }
  write_global("_codecs", "encode");
  write_string(text);
  write_string("latin1");
  emit(Op::tuple2);
  emit(Op::reduce);
}

void Pickler::write_sequence(const Value& value) {
  const auto& items = value.items();
  if (value.kind() == Kind::tuple && items.empty()) return emit(Op::empty_tuple);
  if (value.kind() == Kind::list) {
    emit(Op::empty_list);
    values_.emplace(value.identity(), memoized_);
    put();
    if (items.empty()) return;
  }
  emit(Op::mark);
  for (const auto& item : items) write(item);
  if (value.kind() == Kind::list) return emit(Op::appends);
  emit(Op::tuple);
  values_.emplace(value.identity(), memoized_);
  put();
}

void Pickler::write_dict(const Value& value) {
  if (value.type_name() == "collections.OrderedDict")
    write_ordered_dict();
  else
    emit(Op::empty_dict);
  values_.emplace(value.identity(), memoized_);
  put();
  if (value.entries().empty()) return;
  emit(Op::mark);
  for (const auto& [key, entry] : value.entries()) {
    write(key);
    write(entry);
  }
  emit(Op::setitems);
}

void Pickler::write_global(const std::string& module, const std::string& name) {
  const std::string lines = module + "\n" + name + "\n";
  if (const auto known = globals_.find(lines); known != globals_.end()) return get(known->second);
  emit(Op::global);
  out_ += lines;
  globals_.emplace(lines, memoized_);
  put();
}

void Pickler::write_ordered_dict() {
  write_global("collections", "OrderedDict");
  emit(Op::empty_tuple);
  emit(Op::reduce);
}

void Pickler::write_dimensions(const std::vector<int64_t>& sizes) {
  emit(Op::mark);
  for (const int64_t size : sizes) write_integer(size);
  emit(Op::tuple);
}

std::string_view storage_class(DType dtype) {
  for (const auto& [name, stored] : storage_classes)
    if (stored == dtype) return name;
  return {};
}

// As torch.Tensor._reduce_ex_internal does it: dtypes that are younger than TypedStorage say theirs themselves.
void Pickler::write_tensor(const Tensor& tensor) {
  const bool typed = !storage_class(tensor.dtype).empty();
  write_global("torch._utils", typed ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
  emit(Op::mark);
  write_storage(tensor, typed);
  write_integer(tensor.offset);
  write_dimensions(tensor.sizes);
  write_dimensions(tensor.strides);
  emit(Op::newfalse);
  write_ordered_dict();
  if (!typed) write_global("torch", std::string(dtype_name(tensor.dtype)));
  emit(Op::tuple);
  emit(Op::reduce);
}

void Pickler::write_storage(const Tensor& tensor, bool typed) {
  const size_t width = typed ? element_size(tensor.dtype) : 1;
  const auto [place, added] =
      keys_.try_emplace(tensor.storage.get(), storages_.size(), typed ? tensor.dtype : DType::uint8);
  const auto [key, dtype] = place->second;
  if (added) storages_.push_back(tensor.storage);
  if (dtype != (typed ? tensor.dtype : DType::uint8) || tensor.storage->size() % width)
    throw Error("a storage of two dtypes in a checkpoint");
  emit(Op::mark);
  write_string("storage");
  if (typed)
    write_global("torch", std::string(storage_class(tensor.dtype)));
  else
    write_global("torch.storage", "UntypedStorage");
  write_string(std::to_string(key));
  write_string("cpu");
  write_integer(static_cast<int64_t>(tensor.storage->size() / width));
  emit(Op::tuple);
  emit(Op::binpersid);
}

}  // namespace

std::string pickle(const Value& root, std::vector<std::shared_ptr<const Storage>>& storages) {
  return Pickler(storages).run(root);
}

}  // namespace igpt::formats
