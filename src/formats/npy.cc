#include "igpt/formats/npy.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <exception>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/checked.h"
#include "igpt/formats/input_file.h"
#include "igpt/limits.h"

namespace igpt::formats {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr uint32_t kMaximumHeader = 64 * 1024;
constexpr size_t kMaximumDimensions = 32;  // NumPy's limit before 2.0
constexpr size_t kChunk = size_t{1024} * 1024;

// As Python writes a tuple: "(5,)", "(5, 28, 28)".
std::string in_words(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (const int64_t size : shape) text += std::to_string(size) + ", ";
  if (shape.size() > 1) text.resize(text.size() - 2);
  if (shape.size() == 1) text.pop_back();
  return text + ")";
}

// Spellings that numpy.dtype() accepts on 64-bit Linux besides DTypeInfo's names and codes. Letters, like codes, may
// follow a byte order.
constexpr std::pair<DType, std::string_view> kNames[] = {
    {DType::boolean, "bool_"},  {DType::int8, "byte"},      {DType::uint8, "ubyte"},      {DType::int16, "short"},
    {DType::uint16, "ushort"},  {DType::int32, "intc"},     {DType::uint32, "uintc"},     {DType::int64, "int"},
    {DType::int64, "int_"},     {DType::int64, "long"},     {DType::int64, "longlong"},   {DType::int64, "intp"},
    {DType::uint64, "uint"},    {DType::uint64, "ulong"},   {DType::uint64, "ulonglong"}, {DType::uint64, "uintp"},
    {DType::float32, "single"}, {DType::float64, "double"}, {DType::float64, "float"},
};
constexpr std::pair<DType, std::string_view> kLetters[] = {
    {DType::boolean, "?"},   {DType::int8, "b"},    {DType::uint8, "B"},   {DType::int16, "h"},
    {DType::uint16, "H"},    {DType::int32, "i"},   {DType::uint32, "I"},  {DType::int64, "lqpn"},
    {DType::uint64, "LQPN"}, {DType::float32, "f"}, {DType::float64, "d"},
};

bool is_float(DType dtype) {
  return dtype == DType::float32 || dtype == DType::float64;
}

// The dtype of a spelling such as "|u1", "u1", "uint8" or ">i4"; nothing for dtypes that are not read.
std::optional<DType> find_spelling(std::string_view descr) {
  const bool ordered = !descr.empty() && std::string_view("<>|=").find(descr.front()) != std::string_view::npos;
  const std::string_view code = descr.substr(ordered ? 1 : 0);
  auto found = find_dtype(&DTypeInfo::numpy_code, code);
  if (!found) found = find_dtype(&DTypeInfo::name, descr);
  for (const auto& [dtype, name] : kNames)
    if (name == descr) found = dtype;
  for (const auto& [dtype, letters] : kLetters)
    if (code.size() == 1 && letters.find(code) != letters.npos) found = dtype;
  const auto numpy_code = found ? info_of(*found).numpy_code : "";
  const bool is_whole = numpy_code.starts_with('b') || numpy_code.starts_with('i') || numpy_code.starts_with('u');
  return is_whole || (found && is_float(*found)) ? found : std::nullopt;
}

// Reads the header, a Python dictionary of three known keys in which nothing but the shape nests, from left to right.
class DictionaryReader {
 public:
  // Files of versions 1 and 2 may come from Python 2, whose long integers end in L.
  DictionaryReader(std::string_view text, const std::string& name, bool long_integers)
      : text_(text), name_(name), long_integers_(long_integers) {}

  NpyHeader read() {
    NpyHeader header;
    bool fortran_order = false;
    std::set<std::string_view> keys;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted();
      if (!keys.insert(key).second) malformed();
      expect(':');
      if (key == "descr")
        read_dtype(header);
      else if (key == "fortran_order")
        fortran_order = boolean();
      else if (key == "shape")
        read_shape(header);
      else
        malformed();
      if (!accept(',') && peek() != '}') malformed();
    }
    peek();
    if (!text_.empty() || keys.size() != 3) malformed();
    const auto long_sides = std::ranges::count_if(header.shape, [](int64_t size) { return size != 1; });
    if (fortran_order && long_sides > 1)
      throw InputError(name_ + ": is in Fortran order; save it again with numpy.ascontiguousarray");
    return header;
  }

 private:
  [[noreturn]] void malformed() const { throw InputError(name_ + ": its .npy header is damaged; make the file anew"); }

  // The next character that is not a space; '\0' at the end.
  char peek() {
    text_.remove_prefix(std::min(text_.find_first_not_of(" \n\t\r\f"), text_.size()));
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

  // Python 2 marks strings of text: u'|u1'.
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
    const bool value = peek() == 'T';
    const std::string_view word = value ? "True" : "False";
    if (!text_.starts_with(word)) malformed();
    text_.remove_prefix(word.size());
    return value;
  }

  int64_t number() {
    peek();
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
    const auto dtype = find_spelling(descr);
    if (!dtype)
      throw InputError(name_ + ": holds values of dtype " + printable(descr) +
                       ", which is not read; whole numbers are: images as palette indices, as prepare_data makes them");
    header.dtype = *dtype;
    header.big_endian = descr.front() == '>' && element_size(*dtype) != 1;
  }

  std::string_view text_;
  const std::string& name_;
  bool long_integers_;
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
  int64_t bytes = static_cast<int64_t>(element_size(header.dtype)), count = 1;
  for (const int64_t size : header.shape) {
    const auto product = checked_multiply(bytes, std::max<int64_t>(size, 1));
    if (!product) throw InputError(name + ": its shape is impossible; make the file anew");
    bytes = *product;
    count *= size;
  }
  header.count = count;
  const uint64_t present = file.size() - header.data_offset;
  const uint64_t needed = static_cast<uint64_t>(count) * element_size(header.dtype);
  if (present != needed)
    throw InputError(name + ": holds " + std::to_string(present) + " bytes of values where the shape " +
                     in_words(header.shape) + " of " + std::string(dtype_name(header.dtype)) + " needs " +
                     std::to_string(needed) + "; make the file anew");
  return header;
}

template <class T>
T swap_bytes(T value) {
  auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  std::ranges::reverse(bytes);
  return std::bit_cast<T>(bytes);
}

// Reads all values, which are of type T, and calls each(value, index).
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

// Calls for_each_value with the C++ type of the header's dtype, which is not a float.
template <class Each>
void for_each_integer(InputFile& file, const NpyHeader& header, const Each& each) {
  const bool is_signed = info_of(header.dtype).numpy_code.starts_with('i');
  switch (element_size(header.dtype)) {
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
void write_array(const std::filesystem::path& path, DType dtype, const std::vector<int64_t>& shape,
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

NpyHeader read_npy_header(const std::filesystem::path& path) {
  InputFile file(path);
  return read_header(file);
}

template <class T>
NpyArray<T> read_npy(const std::filesystem::path& path, T minimum, T maximum, const std::string& cure) {
  InputFile file(path);
  const NpyHeader header = read_header(file);
  if (is_float(header.dtype))
    throw InputError(path.string() + ": holds " + std::string(dtype_name(header.dtype)) +
                     ", whole numbers are needed, " + range(minimum, maximum) + "; " + cure);
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
template NpyArray<uint8_t> read_npy(const std::filesystem::path&, uint8_t, uint8_t, const std::string&);
template NpyArray<int16_t> read_npy(const std::filesystem::path&, int16_t, int16_t, const std::string&);
template NpyArray<int64_t> read_npy(const std::filesystem::path&, int64_t, int64_t, const std::string&);

NpyArray<double> read_npy_floats(const std::filesystem::path& path) {
  InputFile file(path);
  const NpyHeader header = read_header(file);
  if (!is_float(header.dtype))
    throw InputError(path.string() + ": holds " + std::string(dtype_name(header.dtype)) + ", not floats");
  auto array = allocate<double>(path, header);
  const auto each = [&](auto value, int64_t index) { array.values[static_cast<size_t>(index)] = value; };
  header.dtype == DType::float32 ? for_each_value<float>(file, header, each)
                                 : for_each_value<double>(file, header, each);
  return array;
}

std::string npy_header(DType dtype, const std::vector<int64_t>& shape) {
  std::string text = "{'descr': '" + std::string(element_size(dtype) == 1 ? "|" : "<") +
                     std::string(info_of(dtype).numpy_code) + "', 'fortran_order': False, 'shape': " + in_words(shape) +
                     ", }";
  // The values start at a multiple of 64 bytes.
  const size_t unpadded = kMagic.size() + 4 + text.size() + 1;
  text.append((64 - unpadded % 64) % 64, ' ');
  text += '\n';
  std::string header(kMagic);
  header += {'\x01', '\x00', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return header + text;
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const uint8_t> values) {
  write_array(path, DType::uint8, shape, values);
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const uint16_t> values) {
  write_array(path, DType::uint16, shape, values);
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const int64_t> values) {
  write_array(path, DType::int64, shape, values);
}

void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const double> values) {
  write_array(path, DType::float64, shape, values);
}

}  // namespace igpt::formats
