#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "temporary_folder.h"

namespace igpt::testing {

template <class T>
T load(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

/// CRC-32C bit by bit, unlike the table under test.
inline uint32_t slow_crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

inline uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = slow_crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/// The contents of a file's TFRecord frames; throws when one is not whole and right.
inline std::vector<std::string> records(const std::string& file) {
  std::vector<std::string> list;
  for (size_t at = 0; at < file.size();) {
    const auto length = load<uint64_t>(file.substr(at, 8));
    if (file.size() - at < 16 + length) throw std::runtime_error("torn record");
    if (load<uint32_t>(file.substr(at + 8, 4)) != masked_crc32c(file.substr(at, 8)))
      throw std::runtime_error("length CRC");
    list.push_back(file.substr(at + 12, length));
    if (load<uint32_t>(file.substr(at + 12 + length, 4)) != masked_crc32c(list.back())) throw std::runtime_error("CRC");
    at += 16 + length;
  }
  return list;
}

struct Field {
  uint64_t number = 0, integer = 0;
  std::string bytes;  ///< of fields that are not integers
};

/// The fields of a Protocol Buffers message, in their order.
inline std::vector<Field> fields(std::string_view message) {
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(message.at(0));
      message.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  };
  std::vector<Field> list;
  while (!message.empty()) {
    const uint64_t key = varint();
    Field field{key >> 3, 0, ""};
    const uint64_t type = key & 7;
    if (type == 0) field.integer = varint();
    const size_t size = type == 0 ? 0 : type == 1 ? 8 : type == 5 ? 4 : varint();
    field.bytes = message.substr(0, size);
    message.remove_prefix(size);
    list.push_back(field);
  }
  return list;
}

/// What TensorBoard shows of a run's folder, by tag: steps and values (of an image its width).
using Shown = std::map<std::string, std::vector<std::pair<int64_t, double>>>;

/// Reads a folder as TensorBoard's EventAccumulator does: the files in the order of their names, their events in order;
/// a SessionLog START takes away what has been read of its step and later ones.
inline Shown read_as_tensorboard(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().filename().string().find("tfevents") != std::string::npos) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  Shown shown;
  for (const auto& file : files)
    for (const auto& record : records(read_bytes(file))) {
      int64_t step = 0;
      for (const Field& field : fields(record)) {
        if (field.number == 2) step = static_cast<int64_t>(field.integer);
        if (field.number == 7 && fields(field.bytes).at(0).integer == 1)
          for (auto& [tag, points] : shown)
            std::erase_if(points, [&](const auto& point) { return point.first >= step; });
        if (field.number != 5) continue;
        const auto value = fields(fields(field.bytes).at(0).bytes);
        const auto& content = value.at(1);
        shown[value.at(0).bytes].emplace_back(step, content.number == 2
                                                        ? load<float>(content.bytes)
                                                        : static_cast<double>(fields(content.bytes).at(1).integer));
      }
    }
  return shown;
}

}  // namespace igpt::testing
