#include "igpt/formats/idx.h"

#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/checked.h"

namespace igpt::formats {
namespace {

constexpr uint8_t kUnsignedByte = 0x08;
constexpr size_t kMaximumDimensions = 4;

std::string in_words(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text;
}

}  // namespace

IdxArray parse_idx(std::string_view bytes, const std::string& name) {
  ByteReader reader(std::as_bytes(std::span(bytes)), name + ":");
  if (bytes.size() < 4 || reader.u16() != 0)
    throw InputError(name + ": is not an IDX file (its first bytes are not 0, 0); is it the right one?");
  const uint8_t type = reader.u8(), dimensions = reader.u8();
  if (type != kUnsignedByte)
    throw InputError(name + ": holds values of IDX type " + std::to_string(type) +
                     ", only unsigned bytes (type 8) are read; convert it");
  if (dimensions < 1 || dimensions > kMaximumDimensions)
    throw InputError(name + ": has " + std::to_string(dimensions) + " dimensions, 1 to 4 are read; is it complete?");
  if (reader.remaining() < 4 * size_t{dimensions})
    throw InputError(name + ": ends within its header; copy or download it again");

  IdxArray array;
  uint64_t count = 1;
  for (size_t i = 0; i < dimensions; ++i) {
    const uint32_t size = reader.u32_be();
    array.shape.push_back(size);
    const auto product = checked_multiply<uint64_t>(count, size);
    if (!product) throw InputError(name + ": its sizes are impossibly large; copy or download it again");
    count = *product;
  }
  if (reader.remaining() != count)
    throw InputError(name + ": holds " + std::to_string(reader.remaining()) + " bytes of values where " +
                     in_words(array.shape) + " need " + std::to_string(count) + "; copy or download it again");
  const auto values = reader.take(count);
  array.values = {reinterpret_cast<const uint8_t*>(values.data()), values.size()};
  return array;
}

}  // namespace igpt::formats
