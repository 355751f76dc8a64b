#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace igpt::formats {

/// The one way that parsers of this library look at bytes from outside: a position in a span that it does not own, and
/// every step checked against the end. Whatever does not fit throws InputError with the position.
class ByteReader {
 public:
  /// `subject` starts every message: "x.ckpt: data.pkl" or, for a whole file, "x.ckpt:".
  ByteReader(std::span<const std::byte> bytes, std::string subject) : bytes_(bytes), subject_(std::move(subject)) {}

  // Little-endian, the position moves behind the number.
  uint8_t u8();
  uint16_t u16();
  uint32_t u32();
  uint64_t u64();
  int32_t i32();
  int64_t i64();
  double f64();

  // The same, big-endian.
  uint32_t u32_be();
  double f64_be();

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
  T number();

  std::span<const std::byte> bytes_;
  std::string subject_;
  size_t position_ = 0;
};

/// `text` from a stranger for use in a message: one line, at most 80 characters, the rest of ASCII escaped.
std::string printable(std::string_view text);

}  // namespace igpt::formats
