#include "igpt/formats/npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <exception>
#include <optional>
#include <string_view>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/checked.h"
#include "igpt/formats/input_file.h"
#include "igpt/limits.h"

static_assert(std::endian::native == std::endian::little, "files are written in the machine's byte order");

namespace igpt::formats {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr uint32_t kMaximumHeader = 64 * 1024;
constexpr size_t kMaximumDimensions = 32;  // NumPy's own limit before 2.0
constexpr size_t kChunk = size_t{1024} * 1024;

// As Python writes a tuple: "(5,)", "(5, 28, 28)".
std::string in_words(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (const int64_t size : shape) text += std::to_string(size) + ", ";
  if (shape.size() > 1) text.resize(text.size() - 2);
  if (shape.size() == 1) text.pop_back();
  return text + ")";
}

struct ElementType {
  std::string_view name;
  char kind;
  int64_t item_size;
};

// What numpy.dtype() takes on 64-bit Linux: names stand alone, codes may follow a byte order.
constexpr ElementType kNames[] = {
    {"bool", 'b', 1},    {"bool_", 'b', 1},  {"int8", 'i', 1},    {"byte", 'i', 1},      {"uint8", 'u', 1},
    {"ubyte", 'u', 1},   {"int16", 'i', 2},  {"short", 'i', 2},   {"uint16", 'u', 2},    {"ushort", 'u', 2},
    {"int32", 'i', 4},   {"intc", 'i', 4},   {"uint32", 'u', 4},  {"uintc", 'u', 4},     {"int64", 'i', 8},
    {"int", 'i', 8},     {"int_", 'i', 8},   {"long", 'i', 8},    {"longlong", 'i', 8},  {"intp", 'i', 8},
    {"uint64", 'u', 8},  {"uint", 'u', 8},   {"ulong", 'u', 8},   {"ulonglong", 'u', 8}, {"uintp", 'u', 8},
    {"float32", 'f', 4}, {"single", 'f', 4}, {"float64", 'f', 8}, {"double", 'f', 8},    {"float", 'f', 8},
};
constexpr ElementType kCodes[] = {
    {"b1", 'b', 1}, {"?", 'b', 1},  {"i1", 'i', 1}, {"b", 'i', 1},  {"u1", 'u', 1}, {"B", 'u', 1},  {"i2", 'i', 2},
    {"h", 'i', 2},  {"u2", 'u', 2}, {"H", 'u', 2},  {"i4", 'i', 4}, {"i", 'i', 4},  {"u4", 'u', 4}, {"I", 'u', 4},
    {"i8", 'i', 8}, {"l", 'i', 8},  {"q", 'i', 8},  {"p", 'i', 8},  {"n", 'i', 8},  {"u8", 'u', 8}, {"L", 'u', 8},
    {"Q", 'u', 8},  {"P", 'u', 8},  {"N", 'u', 8},  {"f4", 'f', 4}, {"f", 'f', 4},  {"f8", 'f', 8}, {"d", 'f', 8},
};

// Of a spelling such as "|u1", "u1", "uint8" or ">i4"; nothing for dtypes that are not read.
std::optional<ElementType> element_type(std::string_view descr) {
  const bool ordered = !descr.empty() && std::string_view("<>|=").find(descr.front()) != std::string_view::npos;
  const std::string_view code = descr.substr(ordered ? 1 : 0);
  if (const auto* known = std::ranges::find(kCodes, code, &ElementType::name); known != std::end(kCodes)) return *known;
  if (const auto* known = std::ranges::find(kNames, descr, &ElementType::name); known != std::end(kNames))
    return *known;
  return std::nullopt;
}

// The header is a Python dictionary of three known keys. Nothing nests in it but the shape, so it is read from left
// to right.
class DictionaryReader {
 public:
  // Of .npy versions 1 and 2 the writer may have been Python 2, whose long integers end in L.
  DictionaryReader(std::string_view text, const std::string& name, bool long_integers)
      : text_(text), name_(name), long_integers_(long_integers) {}

  NpyHeader read() {
    NpyHeader header;
    bool descr = false, fortran_order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr" && !std::exchange(descr, true)) {
        read_dtype(header);
      } else if (key == "fortran_order" && !std::exchange(fortran_order, true)) {
        fortran_ = boolean();
      } else if (key == "shape" && !std::exchange(shape, true)) {
        read_shape(header);
      } else {
        malformed();
      }
      if (!accept(',') && peek() != '}') malformed();
    }
    skip_spaces();
    if (!text_.empty() || !descr || !fortran_order || !shape) malformed();
    const auto long_sides = std::ranges::count_if(header.shape, [](int64_t size) { return size != 1; });
    if (fortran_ && long_sides > 1)
      throw InputError(name_ + ": is in Fortran order; save it again with numpy.ascontiguousarray");
    return header;
  }

 private:
  [[noreturn]] void malformed() const { throw InputError(name_ + ": its .npy header is damaged; make the file anew"); }

  void skip_spaces() {
    const size_t start = text_.find_first_not_of(" \n\t\r\f");
    text_.remove_prefix(start == std::string_view::npos ? text_.size() : start);
  }
  char peek() {
    skip_spaces();
    return text_.empty() ? '\0' : text_.front();
  }
  bool accept(char wanted) {
    if (peek() != wanted) return false;
    text_.remove_prefix(1);
    return true;
  }
  void expect(char wanted) {
    if (!accept(wanted)) malformed();
  }

  // Python 2 marks its text: u'|u1'.
  std::string_view quoted() {
    if (const char prefix = peek(); prefix == 'u' || prefix == 'U') text_.remove_prefix(1);
    const char quote = text_.empty() ? '\0' : text_.front();
    if (quote != '\'' && quote != '"') malformed();
    const size_t end = text_.find(quote, 1);
    if (end == std::string_view::npos) malformed();
    const std::string_view content = text_.substr(1, end - 1);
    text_.remove_prefix(end + 1);
    return content;
  }

  bool boolean() {
    skip_spaces();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return value;
    }
    malformed();
  }

  int64_t number() {
    skip_spaces();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error == std::errc::result_out_of_range || value < 0)
      throw InputError(name_ + ": its shape is impossible; make the file anew");
    if (error != std::errc()) malformed();
    text_.remove_prefix(static_cast<size_t>(end - text_.data()));
    if (long_integers_) accept('L');
    return value;
  }

  void read_shape(NpyHeader& header) {
    expect('(');
    while (!accept(')')) {
      if (header.shape.size() == kMaximumDimensions) malformed();
      header.shape.push_back(number());
      if (!accept(',') && (peek() != ')' || header.shape.size() < 2)) malformed();  // "(5)" is a number in Python
    }
  }

  void read_dtype(NpyHeader& header) {
    if (peek() == '[') throw InputError(name_ + ": holds records, not numbers; save one field of it");
    const std::string_view descr = quoted();
    const auto type = element_type(descr);
    if (!type)
      throw InputError(name_ + ": holds values of dtype " + printable(descr) +
                       ", which is not read; whole numbers are: images as palette indices, as prepare_data makes them");
    header.kind = type->kind;
    header.item_size = type->item_size;
    header.big_endian = descr.front() == '>' && header.item_size != 1;
  }

  std::string_view text_;
  const std::string& name_;
  bool long_integers_;
  bool fortran_ = false;
};

NpyHeader read_header(InputFile& file) {
  const std::string name = file.path().string();
  std::array<std::byte, 12> prefix;
  const size_t got = file.read(std::span(prefix).first(8));
  ByteReader reader(prefix, name + ":");
  if (got < 8 || reader.take_text(kMagic.size()) != kMagic)
    throw InputError(name + ": is not an .npy file; is it the right one?");
  const uint8_t major = reader.u8(), minor = reader.u8();
  if (major < 1 || major > 3 || minor != 0)
    throw InputError(name + ": is of .npy version " + std::to_string(major) + "." + std::to_string(minor) +
                     ", 1.0, 2.0 and 3.0 are read; save it again with numpy.save");
  file.read_exactly(std::span(prefix).subspan(8, major == 1 ? 2 : 4));
  const uint32_t length = major == 1 ? reader.u16() : reader.u32();
  if (length > kMaximumHeader || length > file.size() - file.position())
    throw InputError(name + ": its .npy header is damaged; make the file anew");
  std::string text(length, '\0');
  file.read_exactly(std::as_writable_bytes(std::span(text)));

  NpyHeader header = DictionaryReader(text, name, /*long_integers=*/major <= 2).read();
  header.data_offset = file.position();
  // A zero among the sizes must not hide that the others overflow.
  int64_t bytes = header.item_size, count = 1;
  for (const int64_t size : header.shape) {
    const auto product = checked_multiply(bytes, std::max<int64_t>(size, 1));
    if (!product) throw InputError(name + ": its shape is impossible; make the file anew");
    bytes = *product;
    count *= size;
  }
  header.count = count;
  const uint64_t present = file.size() - header.data_offset;
  const uint64_t needed = static_cast<uint64_t>(count) * static_cast<uint64_t>(header.item_size);
  if (present != needed)
    throw InputError(name + ": holds " + std::to_string(present) + " bytes of values where the shape " +
                     in_words(header.shape) + " of " + header.dtype() + " needs " + std::to_string(needed) +
                     "; make the file anew");
  return header;
}

template <class T>
T swap_bytes(T value) {
  auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  std::ranges::reverse(bytes);
  return std::bit_cast<T>(bytes);
}

// Reads `count` values of type T and gives them to each(value, index).
template <class T, class Each>
void for_each_value(InputFile& file, const NpyHeader& header, const Each& each) {
  std::vector<T> chunk(std::min<uint64_t>(kChunk / sizeof(T), static_cast<uint64_t>(header.count)));
  for (int64_t start = 0; start < header.count;) {
    const auto size = std::min<int64_t>(static_cast<int64_t>(chunk.size()), header.count - start);
    const std::span<T> values = std::span(chunk).first(static_cast<size_t>(size));
    file.read_exactly(std::as_writable_bytes(values));
    for (const T value : values) each(header.big_endian ? swap_bytes(value) : value, start++);
  }
}

// Calls for_each_value with the C++ type of the header's dtype.
template <class Each>
void for_each_integer(InputFile& file, const NpyHeader& header, const Each& each) {
  const bool is_signed = header.kind == 'i';
  switch (header.item_size) {
    case 1:
      return is_signed ? for_each_value<int8_t>(file, header, each) : for_each_value<uint8_t>(file, header, each);
    case 2:
      return is_signed ? for_each_value<int16_t>(file, header, each) : for_each_value<uint16_t>(file, header, each);
    case 4:
      return is_signed ? for_each_value<int32_t>(file, header, each) : for_each_value<uint32_t>(file, header, each);
    default:
      return is_signed ? for_each_value<int64_t>(file, header, each) : for_each_value<uint64_t>(file, header, each);
  }
}

std::string position_of(int64_t index, const std::vector<int64_t>& shape) {
  std::vector<int64_t> position(shape.size());
  for (size_t i = shape.size(); i-- > 0; index /= shape[i]) position[i] = index % shape[i];
  return in_words(position);
}

template <class T>
NpyArray<T> allocate(const std::filesystem::path& path, const NpyHeader& header) {
  try {
    return {header.shape, std::vector<T>(static_cast<size_t>(header.count))};
  } catch (const std::exception&) {  // bad_alloc or length_error
    throw InputError(path.string() + ": its " + std::to_string(header.count) + " values do not fit into memory" +
                     more_memory());
  }
}

std::string range(int64_t minimum, int64_t maximum) {
  return std::to_string(minimum) + (maximum == INT64_MAX ? " or more" : " to " + std::to_string(maximum));
}

template <class T>
NpyArray<T> read_integers(const std::filesystem::path& path, T minimum, T maximum, const std::string& cure) {
  InputFile file(path);
  const NpyHeader header = read_header(file);
  if (header.kind == 'f')
    throw InputError(path.string() + ": holds " + header.dtype() + ", whole numbers are needed, " +
                     range(minimum, maximum) + "; " + cure);
  auto array = allocate<T>(path, header);
  for_each_integer(file, header, [&](auto value, int64_t index) {
    if (std::cmp_less(value, minimum) || std::cmp_greater(value, maximum))
      throw InputError(path.string() + ": holds " + std::to_string(value) + " at " + position_of(index, header.shape) +
                       ", allowed are " + range(minimum, maximum) + "; " + cure);
    // NOLINTNEXTLINE(bugprone-signed-char-misuse,cert-str34-c): int8 is a number here, not a character
    array.values[static_cast<size_t>(index)] = static_cast<T>(value);
  });
  return array;
}

template <class T>
void write_array(const std::filesystem::path& path, const char* dtype, const std::vector<int64_t>& shape,
                 std::span<const T> values) {
  std::optional<int64_t> count = 1;
  for (const int64_t size : shape) count = count && size >= 0 ? checked_multiply(*count, size) : std::nullopt;
  if (!count || std::cmp_not_equal(*count, values.size()))
    throw InputError(path.string() + ": the shape " + in_words(shape) + " is not that of " +
                     std::to_string(values.size()) + " values");
  AtomicFile file(path);
  file.write(npy_header(dtype, shape));
  file.write(std::as_bytes(values));
  file.publish();
}

}  // namespace

std::string NpyHeader::dtype() const {
  if (kind == 'b') return "bool";
  const std::string bits = std::to_string(8 * item_size);
  return (kind == 'u' ? "uint" : kind == 'i' ? "int" : "float") + bits;
}

NpyHeader read_npy_header(const std::filesystem::path& path) {
  InputFile file(path);
  return read_header(file);
}

NpyArray<uint8_t> read_npy_uint8(const std::filesystem::path& path, uint8_t maximum, const std::string& cure) {
  return read_integers<uint8_t>(path, 0, maximum, cure);
}

NpyArray<int16_t> read_npy_int16(const std::filesystem::path& path, int16_t minimum, int16_t maximum,
                                 const std::string& cure) {
  return read_integers<int16_t>(path, minimum, maximum, cure);
}

NpyArray<int64_t> read_npy_int64(const std::filesystem::path& path, int64_t minimum, int64_t maximum,
                                 const std::string& cure) {
  return read_integers<int64_t>(path, minimum, maximum, cure);
}

NpyArray<double> read_npy_float64(const std::filesystem::path& path) {
  InputFile file(path);
  const NpyHeader header = read_header(file);
  auto array = allocate<double>(path, header);
  const auto store = [&](auto value, int64_t index) {
    array.values[static_cast<size_t>(index)] = static_cast<double>(value);
  };
  if (header.kind != 'f') {
    for_each_integer(file, header, store);
  } else if (header.item_size == 4) {
    for_each_value<float>(file, header, store);
  } else {
    for_each_value<double>(file, header, store);
  }
  return array;
}

std::string npy_header(const std::string& dtype, const std::vector<int64_t>& shape) {
  const char* descr = dtype == "uint8" ? "|u1" : dtype == "int64" ? "<i8" : dtype == "float64" ? "<f8" : nullptr;
  if (!descr) throw InputError("cannot write an .npy file of " + dtype + ", only of uint8, int64 or float64");
  std::string text =
      "{'descr': '" + std::string(descr) + "', 'fortran_order': False, 'shape': " + in_words(shape) + ", }";
  // The values start at a multiple of 64 bytes.
  const size_t unpadded = kMagic.size() + 4 + text.size() + 1;
  text.append((64 - unpadded % 64) % 64, ' ');
  text += '\n';
  std::string header(kMagic);
  header += {'\x01', '\x00', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return header + text;
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const uint8_t> values) {
  write_array(path, "uint8", shape, values);
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const int64_t> values) {
  write_array(path, "int64", shape, values);
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const double> values) {
  write_array(path, "float64", shape, values);
}

}  // namespace igpt::formats
