#pragma once

#include <cstring>
#include <string>

#include "igpt/formats/pickle_value.h"
#include "tensor_values.h"

namespace igpt::formats {

inline std::string hex(std::span<const std::byte> bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string result;
  for (const auto byte : bytes) {
    result += digits[static_cast<int>(byte) >> 4];
    result += digits[static_cast<int>(byte) & 15];
  }
  return result;
}

inline std::string hex(const std::string& bytes) {
  return hex(std::as_bytes(std::span(bytes)));
}

inline std::string one_value(const PickleValue& value) {
  switch (value.kind()) {
    case PickleValue::Kind::none:
      return "None";
    case PickleValue::Kind::boolean:
      return *value.as_bool() ? "bool True" : "bool False";
    case PickleValue::Kind::integer:
      return "int " + std::to_string(*value.as_int());
    case PickleValue::Kind::big_integer:
      return "int big";
    case PickleValue::Kind::floating: {
      const double number = *value.as_double();
      return "float " + hex(std::as_bytes(std::span(&number, 1)));
    }
    case PickleValue::Kind::string:
      return "str " + *value.as_string();
    case PickleValue::Kind::bytes:
      return "bytes " + hex(*value.as_bytes());
    case PickleValue::Kind::list:
      return "list " + std::to_string(value.items().size());
    case PickleValue::Kind::tuple:
      return "tuple " + std::to_string(value.items().size());
    case PickleValue::Kind::set:
      return "set " + std::to_string(value.items().size());
    case PickleValue::Kind::dict:
      return "dict " + std::to_string(value.entries().size());
    case PickleValue::Kind::opaque:
      return "object";
    case PickleValue::Kind::tensor: {
      std::string sizes;
      for (const auto size : value.as_tensor()->sizes) sizes += std::to_string(size) + ",";
      return "tensor " + std::string(dtype_name(value.as_tensor()->dtype)) + " (" + sizes + ") " +
             hex(testing::elements_of(*value.as_tensor()));
    }
  }
  return "";
}

/// The text that tests/golden/make_golden_checkpoints.py writes into CONTENT.txt.
inline std::string checkpoint_text(const PickleValue& value, const std::string& path = "") {
  std::string result = path + "\t" + one_value(value) + "\n";
  if (value.kind() == PickleValue::Kind::set) return result;
  for (size_t i = 0; i < value.items().size(); ++i)
    result += checkpoint_text(value.items()[i], path + "/" + std::to_string(i));
  for (const auto& [key, entry] : value.entries()) {
    const std::string name = key.as_string() ? *key.as_string()
                             : key.as_int()  ? std::to_string(*key.as_int())
                                             : "object";
    result += checkpoint_text(entry, path + "/" + name);
  }
  return result;
}

}  // namespace igpt::formats
