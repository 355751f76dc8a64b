#include "igpt/formats/events.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <utility>

#include "igpt/error.h"
#include "igpt/formats/png.h"

namespace igpt::formats {
namespace {

// The part of Protocol Buffers' wire format that tensorflow/core/util/event.proto and framework/summary.proto need.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void put_varint(std::string& to, uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>(value | 0x80);
  to += static_cast<char>(value);
}

template <class T>
void put_little_endian(std::string& to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) to += static_cast<char>(value >> (8 * i) & 0xff);
}

void put_key(std::string& to, uint32_t field, WireType type) {
  put_varint(to, field << 3 | type);
}

void put_integer(std::string& to, uint32_t field, int64_t value) {
  put_key(to, field, kVarint);
  put_varint(to, static_cast<uint64_t>(value));
}

void put_bytes(std::string& to, uint32_t field, std::string_view bytes) {
  put_key(to, field, kBytes);
  put_varint(to, bytes.size());
  to += bytes;
}

void put_double(std::string& to, uint32_t field, double value) {
  put_key(to, field, kFixed64);
  put_little_endian(to, std::bit_cast<uint64_t>(value));
}

void put_float(std::string& to, uint32_t field, float value) {
  put_key(to, field, kFixed32);
  put_little_endian(to, std::bit_cast<uint32_t>(value));
}

// Event: wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7. Summary: value = 1.
std::string summary_event(double time, int64_t step, std::string_view value) {
  std::string summary, event;
  put_bytes(summary, 1, value);
  put_double(event, 1, time);
  put_integer(event, 2, step);
  put_bytes(event, 5, summary);
  return event;
}

// TFRecord: length, masked CRC of the length, content, masked CRC of the content.
std::string record(std::string_view content) {
  const auto masked = [](std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xa282ead8u; };
  std::string bytes;
  put_little_endian(bytes, static_cast<uint64_t>(content.size()));
  put_little_endian(bytes, masked(bytes));
  bytes += content;
  put_little_endian(bytes, masked(content));
  return bytes;
}

std::string host() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0 || !*name) return "localhost";
  std::string text = name;
  for (char& c : text)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '.') c = '-';
  return text;
}

constexpr std::string_view kPrefix = "events.out.tfevents.";

// TensorBoard reads a folder's files in the order of their names, which must be the order of their creation, also
// within one second and with clocks that differ.
int64_t second_for_name(const std::filesystem::path& folder, double now) {
  auto second = static_cast<int64_t>(now);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    int64_t other = 0;
    if (!name.starts_with(kPrefix)) continue;
    const auto parsed = std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), other);
    if (parsed.ec == std::errc() && other < 9'999'999'999) second = std::max(second, other + 1);
  }
  return second;
}

AppendFile create_file(const std::filesystem::path& folder, double now) {
  const std::string stem = std::string(kPrefix) + std::to_string(second_for_name(folder, now)) + "." + host() + "." +
                           std::to_string(getpid()) + ".";
  for (int n = 0;; ++n) {
    const auto path = folder / (stem + std::to_string(n));
    FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666));
    if (file) return {path, std::move(file)};
    if (errno != EEXIST || n == 10'000) throw Error(path.string() + ": cannot create: " + std::strerror(errno));
  }
}

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0);
    table[i] = value;
  }
  return table;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr auto kTable = crc_table();
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

EventWriter::EventWriter(const std::filesystem::path& folder, std::function<double()> clock)
    : clock_(std::move(clock)), file_(create_file(folder, clock_())) {
  std::string event;
  put_double(event, 1, clock_());
  put_bytes(event, 3, "brain.Event:2");
  try {
    append(event);
  } catch (...) {
    ::unlink(path().c_str());
    throw;
  }
}

void EventWriter::restart(int64_t step) {
  std::string session, event;  // SessionLog: status = 1, of which START is 1
  put_integer(session, 1, 1);
  put_double(event, 1, clock_());
  put_integer(event, 2, step);
  put_bytes(event, 7, session);
  append(event);
}

void EventWriter::scalar(std::string_view tag, double value, int64_t step) {
  std::string content;  // Summary.Value: tag = 1, simple_value = 2
  put_bytes(content, 1, tag);
  put_float(content, 2, static_cast<float>(value));
  append(summary_event(clock_(), step, content));
}

void EventWriter::image(std::string_view tag, const Image& image, int64_t step) {
  std::string picture, content;  // Image: height = 1, width = 2, colorspace = 3, encoded_image_string = 4
  put_integer(picture, 1, image.height);
  put_integer(picture, 2, image.width);
  put_integer(picture, 3, image.channels);
  put_bytes(picture, 4, encode_png(image));
  put_bytes(content, 1, tag);
  put_bytes(content, 4, picture);
  append(summary_event(clock_(), step, content));
}

void EventWriter::append(std::string_view event) {
  file_.append(record(event));
}

}  // namespace igpt::formats
