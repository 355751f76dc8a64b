#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace igpt::formats {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in the file");

/// The one way in which the parsers of this library look at bytes from outside: a position in a span that it does not
/// own, with every step checked against the end. Whatever does not fit throws InputError with the position.
class ByteReader {
 public:
  /// `subject` starts every message: "x.ckpt: data.pkl" or, for a whole file, "x.ckpt:".
  ByteReader(std::span<const std::byte> bytes, std::string subject) : bytes_(bytes), subject_(std::move(subject)) {}

  // Little-endian; each moves the position behind the number.
  uint8_t u8() { return number<uint8_t>(); }
  uint16_t u16() { return number<uint16_t>(); }
  uint32_t u32() { return number<uint32_t>(); }
  uint64_t u64() { return number<uint64_t>(); }
  int32_t i32() { return number<int32_t>(); }

  // Big-endian.
  uint32_t u32_be() { return __builtin_bswap32(u32()); }
  double f64_be() { return std::bit_cast<double>(__builtin_bswap64(u64())); }

  /// The next `count` bytes.
  std::span<const std::byte> take(uint64_t count);
  std::string_view take_text(uint64_t count);

  /// The bytes up to the next '\n', at most `limit` of them, without it.
  std::string_view line(size_t limit);

  size_t position() const { return position_; }
  size_t size() const { return bytes_.size(); }
  size_t remaining() const { return bytes_.size() - position_; }
  bool at_end() const { return remaining() == 0; }
  void seek(uint64_t position);

  const std::string& subject() const { return subject_; }

  /// Throws InputError "SUBJECT PREDICATE".
  [[noreturn]] void fail(const std::string& predicate) const;

 private:
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::span<const std::byte> bytes_;
  std::string subject_;
  size_t position_ = 0;
};

/// `bytes` as text.
inline std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// `text` from a stranger for use in a message: one line of at most 80 characters, with control and non-ASCII
/// characters escaped.
std::string printable(std::string_view text);

}  // namespace igpt::formats
