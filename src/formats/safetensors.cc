#include "igpt/formats/safetensors.h"

#include <algorithm>
#include <new>
#include <optional>
#include <set>

#include "igpt/counted.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/checked.h"
#include "igpt/formats/json.h"
#include "igpt/formats/json_text.h"
#include "igpt/formats/utf8.h"
#include "igpt/limits.h"

namespace igpt::formats {
namespace {

constexpr uint64_t length_size = 8;                       // of the header's length, at the start
constexpr uint64_t longest_of_format = 100'000'000;       // header
constexpr uint64_t max_header_size = uint64_t{16} << 20;  // of those that are read
constexpr size_t max_tensors = 100'000, max_name = 1024;
constexpr size_t max_dimensions = 64;                     // torch's limit
constexpr int64_t largest_size = (int64_t{1} << 48) - 1;  // of a dimension
constexpr std::string_view metadata_key = "__metadata__";
constexpr JsonLimits header_limits{.bytes = max_header_size, .key = max_name, .depth = 3, .values = 10'000};

struct Format {
  std::string_view name;
  uint64_t bits;  // of an element
  std::optional<DType> dtype = std::nullopt;
};

// In the order in which tensors lie in a file of the reference.
constexpr Format known_formats[] = {
    {"U64", 64, DType::uint64},
    {"I64", 64, DType::int64},
    {"F64", 64, DType::float64},
    {"C64", 64, DType::complex64},
    {"F32", 32, DType::float32},
    {"U32", 32, DType::uint32},
    {"I32", 32, DType::int32},
    {"BF16", 16, DType::bfloat16},
    {"F16", 16, DType::float16},
    {"U16", 16, DType::uint16},
    {"I16", 16, DType::int16},
    {"F8_E5M2FNUZ", 8, DType::float8_e5m2fnuz},
    {"F8_E4M3FNUZ", 8, DType::float8_e4m3fnuz},
    {"F8_E8M0", 8},
    {"F8_E4M3", 8, DType::float8_e4m3fn},
    {"F8_E5M2", 8, DType::float8_e5m2},
    {"I8", 8, DType::int8},
    {"U8", 8, DType::uint8},
    {"F6_E3M2", 6},
    {"F6_E2M3", 6},
    {"F4", 4},
    {"BOOL", 8, DType::boolean},
};

const Format* find_format(std::string_view name) {
  const auto* found = std::ranges::find(known_formats, name, &Format::name);
  return found == std::end(known_formats) ? nullptr : found;
}

const Format* format_of(DType dtype) {
  const auto* found = std::ranges::find(known_formats, std::optional(dtype), &Format::dtype);
  return found == std::end(known_formats) ? nullptr : found;
}

// "F32 [2, 3]"
std::string described(std::string_view dtype, const std::vector<int64_t>& sizes) {
  std::string list;
  for (const int64_t size : sizes) list += (list.empty() ? "" : ", ") + std::to_string(size);
  return printable(std::string(dtype) + " [" + list + "]");
}

std::string of_bytes(uint64_t count) {
  return counted(static_cast<int64_t>(count), "byte");
}

// Nothing where the product cannot be counted, even if one of the sizes is 0, or is no whole number of bytes.
std::optional<uint64_t> bytes_of(const Format& format, const std::vector<int64_t>& sizes) {
  std::optional<uint64_t> bits = format.bits;
  bool empty = false;
  for (const int64_t size : sizes) {
    empty |= size == 0;
    bits = bits ? checked_multiply(*bits, static_cast<uint64_t>(std::max<int64_t>(size, 1))) : bits;
  }
  if (!bits) return std::nullopt;
  if (empty) return 0;
  return *bits % 8 == 0 ? std::optional(*bits / 8) : std::nullopt;
}

}  // namespace

// Reads the header into a reader.
class SafetensorsReader::Header {
 public:
  explicit Header(SafetensorsReader& reader) : reader_(reader), file_size_(reader.file_->size()) {}

  void read() {
    const uint64_t length = read_length();
    begin_ = length_size + length;
    const auto bytes = reader_.file_->read_at(length_size, length);
    const auto text = text_of(bytes.bytes);
    if (!text.starts_with('{')) fail("has a header that does not begin with {; is it a safetensors file?");
    if (text.find_last_not_of(' ') != text.rfind('}')) fail("has a header that does not end with } and spaces");
    for_each_json_member(text, reader_.name_ + ": header", header_limits, [this](const auto& key, const Json& value) {
      if (key == metadata_key)
        take_metadata(value);
      else
        take_tensor(key, value);
    });
    check_ranges();
    std::ranges::sort(reader_.tensors_, {}, &Tensor::name);
  }

 private:
  [[noreturn]] void fail(const std::string& predicate) const { throw InputError(reader_.name_ + ": " + predicate); }

  uint64_t read_length() const {
    if (file_size_ == 0) fail("is empty; copy it again");
    if (file_size_ < length_size) fail("is cut off at byte " + std::to_string(file_size_) + "; copy it again");
    const auto bytes = reader_.file_->read_at(0, length_size);
    const uint64_t length = ByteReader(bytes.bytes, reader_.name_ + ":").u64();
    if (length > longest_of_format)
      fail("has a header of " + of_bytes(length) + ", the format allows " + std::to_string(longest_of_format) +
           "; is it a safetensors file?");
    if (length > file_size_ - length_size)
      fail("is cut off at byte " + std::to_string(file_size_) + ", in its header of " + of_bytes(length) +
           "; copy it again");
    if (length > max_header_size) fail("has a header of " + of_bytes(length) + ", which no checkpoint needs");
    return length;
  }

  void take_metadata(const Json& value) {
    for (const auto& [key, text] : value.members()) reader_.metadata_.emplace(key, text.text());
  }

  void take_tensor(const std::string& name, const Json& value) {
    if (reader_.tensors_.size() == max_tensors)
      fail("has more than " + std::to_string(max_tensors) + " tensors, which no checkpoint needs");
    for (const auto& [key, member] : value.members())
      if (key != "dtype" && key != "shape" && key != "data_offsets") member.fail("is not known to the format");
    const Json dtype = value["dtype"], shape = value["shape"], offsets = value["data_offsets"];
    const Format* format = find_format(dtype.text());
    if (!format) dtype.fail("is " + printable(dtype.text()) + ", which the format does not know");
    Tensor tensor{name, format->name, shape.wholes(allowed_sizes_)};
    if (tensor.sizes.size() > max_dimensions)
      shape.fail("has more than " + std::to_string(max_dimensions) + " dimensions");

    const auto ends = offsets.wholes(allowed_offsets_);
    if (ends.size() != 2 || ends[0] > ends[1]) offsets.fail("must be the begin and the end of its bytes");
    const uint64_t end = static_cast<uint64_t>(ends[1]), data_size = file_size_ - begin_;
    if (end > data_size) value.fail("ends " + of_bytes(end - data_size) + " behind the end of the file; copy it again");
    tensor.offset = begin_ + static_cast<uint64_t>(ends[0]);
    tensor.nbytes = static_cast<uint64_t>(ends[1] - ends[0]);
    const auto needed = bytes_of(*format, tensor.sizes);
    if (!needed)
      value.fail("is " + described(format->name, tensor.sizes) + ", which is no number of bytes; the file is damaged");
    if (*needed != tensor.nbytes)
      value.fail("has " + of_bytes(tensor.nbytes) + " where " + described(format->name, tensor.sizes) + " needs " +
                 std::to_string(*needed) + "; the file is damaged");
    reader_.tensors_.push_back(std::move(tensor));
  }

  // Every byte of the data belongs to one tensor.
  void check_ranges() {
    std::ranges::sort(reader_.tensors_, {},
                      [](const Tensor& tensor) { return std::pair(tensor.offset, tensor.nbytes); });
    uint64_t position = begin_;
    const auto owned_until = [&](uint64_t next) {
      if (next > position)
        fail("has " + of_bytes(next - position) + " at byte " + std::to_string(position) +
             " that belong to no tensor; do not trust this file");
    };
    for (size_t i = 0; i < reader_.tensors_.size(); ++i) {
      const Tensor& tensor = reader_.tensors_[i];
      if (tensor.offset < position)
        fail("has the tensors " + printable(reader_.tensors_[i - 1].name) + " and " + printable(tensor.name) +
             " in the same bytes; do not trust this file");
      owned_until(tensor.offset);
      position = tensor.offset + tensor.nbytes;
    }
    owned_until(file_size_);
  }

  const Allowed<int64_t> allowed_sizes_ = between(0, largest_size), allowed_offsets_ = at_least(0);
  SafetensorsReader& reader_;
  uint64_t file_size_, begin_ = 0;  // of the data in the file
};

SafetensorsReader::SafetensorsReader(std::shared_ptr<const InputFile> file, std::string name)
    : file_(std::move(file)), name_(std::move(name)) {
  try {
    Header(*this).read();
  } catch (const std::bad_alloc&) {
    throw InputError(name_ + ": its header does not fit into memory" + more_memory());
  }
}

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path)
    : SafetensorsReader(std::make_shared<const InputFile>(path), path.string()) {}

const SafetensorsReader::Tensor* SafetensorsReader::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(tensors_, name, {}, &Tensor::name);
  return found == tensors_.end() || found->name != name ? nullptr : &*found;
}

StoredTensor SafetensorsReader::read(const Tensor& tensor) const {
  const auto dtype = find_format(tensor.dtype)->dtype;
  if (!dtype)
    throw InputError(name_ + ": " + printable(tensor.name) + " is of the dtype " + std::string(tensor.dtype) +
                     ", which is not read; convert it to F32 first");
  const auto load = [file = file_, offset = tensor.offset, size = tensor.nbytes] {
    return file->read_at(offset, size);
  };
  return {std::make_shared<const Storage>(tensor.nbytes, load), *dtype, /*offset=*/0, tensor.sizes,
          contiguous_strides(tensor.sizes)};
}

bool is_safetensors(const InputFile& file) {
  if (file.size() <= length_size) return false;
  const auto start = file.read_at(0, length_size + 1);
  ByteReader reader(start.bytes, file.path().string() + ":");
  return reader.u64() <= longest_of_format && reader.take_text(1) == "{";
}

namespace {

using NamedTensors = std::vector<std::pair<std::string, StoredTensor>>;

bool is_contiguous(const StoredTensor& tensor) {
  const auto expected = contiguous_strides(tensor.sizes);
  for (size_t i = 0; i < expected.size(); ++i)
    if (tensor.sizes[i] > 1 && tensor.strides[i] != expected[i]) return false;
  return true;
}

// Why the format cannot hold a tensor, or nothing.
std::optional<std::string> fault_of(const std::string& name, const StoredTensor& tensor) {
  if (name == metadata_key) return "has a name that the format keeps for itself";
  if (!is_utf8(name)) return "has a name that is not UTF-8";
  if (name.size() > max_name) return "has a name of more than " + std::to_string(max_name) + " bytes";
  if (const auto fault = tensor_fault(tensor)) return fault;
  if (!format_of(tensor.dtype))
    return "is of the dtype " + std::string(dtype_name(tensor.dtype)) + ", which has no name";
  if (std::ranges::any_of(tensor.sizes, [](int64_t size) { return size > largest_size; })) return "is too large";
  if (tensor.numel() > 0 && !is_contiguous(tensor)) return "is not contiguous";
  return std::nullopt;
}

std::string header_of(const std::vector<const NamedTensors::value_type*>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::string header = "{" + json_text(metadata_key) + ":{";
  for (const auto& [key, text] : metadata)
    header += (header.ends_with('{') ? "" : ",") + json_text(key) + ":" + json_text(text);
  header += "}";
  uint64_t offset = 0;
  for (const auto* named : tensors) {
    const auto& [name, tensor] = *named;
    std::string sizes;
    for (const int64_t size : tensor.sizes) sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
    const uint64_t end = offset + tensor.nbytes();
    header += "," + json_text(name) + ":{\"dtype\":\"" + std::string(format_of(tensor.dtype)->name) + "\",\"shape\":[" +
              sizes + "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(end) + "]}";
    offset = end;
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  return header;
}

}  // namespace

void write_safetensors(const std::filesystem::path& target, const NamedTensors& tensors,
                       std::map<std::string, std::string> metadata) {
  const auto fail = [&](const std::string& what) { throw InputError(target.string() + ": " + what); };
  metadata.try_emplace("format", "pt");
  for (const auto& [key, text] : metadata)
    if (!is_utf8(key) || !is_utf8(text) || key.size() > max_name)
      fail("the metadata " + printable(key) + " is not UTF-8 or too long");
  std::vector<const NamedTensors::value_type*> sorted;
  std::set<std::string_view> names;
  for (const auto& named : tensors) {
    const auto& [name, tensor] = named;
    if (const auto fault = fault_of(name, tensor)) fail("the tensor " + printable(name) + " " + *fault);
    if (!names.insert(name).second) fail("the tensor " + printable(name) + " is given twice");
    sorted.push_back(&named);
  }
  std::ranges::sort(sorted, {}, [](const auto* named) {
    return std::pair(format_of(named->second.dtype), std::string_view(named->first));
  });
  const std::string header = header_of(sorted, metadata);
  if (header.size() > max_header_size || tensors.size() > max_tensors || metadata.size() >= header_limits.values)
    fail("has more tensors or metadata than a safetensors file is read with");

  AtomicFile file(target);
  const uint64_t length = header.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (const auto* named : sorted) {
    const StoredTensor& tensor = named->second;
    const uint64_t begin = static_cast<uint64_t>(tensor.offset) * element_size(tensor.dtype);
    if (tensor.nbytes() > 0) file.write(tensor.storage->bytes().subspan(begin, tensor.nbytes()));
  }
  file.publish();
}

}  // namespace igpt::formats
