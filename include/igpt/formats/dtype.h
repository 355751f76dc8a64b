#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace igpt::formats {

/// The element types of the tensors of a checkpoint and of the arrays of an .npy file.
enum class DType : uint8_t {
  float64,
  float32,
  float16,
  bfloat16,
  float8_e4m3fn,
  float8_e4m3fnuz,
  float8_e5m2,
  float8_e5m2fnuz,
  complex64,
  complex128,
  int64,
  int32,
  int16,
  int8,
  uint64,
  uint32,
  uint16,
  uint8,
  boolean,
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;           ///< as torch has it: "float32", "bool"
  size_t size;                     ///< bytes of an element
  std::string_view storage_class;  ///< of torch: "FloatStorage"; empty: dtypes that are younger than typed storages
  std::string_view numpy_code;     ///< "f4"; empty: numpy has no such dtype
};

/// In the order of DType.
inline constexpr DTypeInfo dtypes[] = {
    {DType::float64, "float64", 8, "DoubleStorage", "f8"},
    {DType::float32, "float32", 4, "FloatStorage", "f4"},
    {DType::float16, "float16", 2, "HalfStorage", "f2"},
    {DType::bfloat16, "bfloat16", 2, "BFloat16Storage", ""},
    {DType::float8_e4m3fn, "float8_e4m3fn", 1, "", ""},
    {DType::float8_e4m3fnuz, "float8_e4m3fnuz", 1, "", ""},
    {DType::float8_e5m2, "float8_e5m2", 1, "", ""},
    {DType::float8_e5m2fnuz, "float8_e5m2fnuz", 1, "", ""},
    {DType::complex64, "complex64", 8, "ComplexFloatStorage", "c8"},
    {DType::complex128, "complex128", 16, "ComplexDoubleStorage", "c16"},
    {DType::int64, "int64", 8, "LongStorage", "i8"},
    {DType::int32, "int32", 4, "IntStorage", "i4"},
    {DType::int16, "int16", 2, "ShortStorage", "i2"},
    {DType::int8, "int8", 1, "CharStorage", "i1"},
    {DType::uint64, "uint64", 8, "", "u8"},
    {DType::uint32, "uint32", 4, "", "u4"},
    {DType::uint16, "uint16", 2, "", "u2"},
    {DType::uint8, "uint8", 1, "ByteStorage", "u1"},
    {DType::boolean, "bool", 1, "BoolStorage", "b1"},
};

static_assert(std::ranges::is_sorted(dtypes, {}, &DTypeInfo::dtype));

constexpr const DTypeInfo& info_of(DType dtype) {
  return dtypes[static_cast<size_t>(dtype)];
}
constexpr size_t element_size(DType dtype) {
  return info_of(dtype).size;
}
constexpr std::string_view dtype_name(DType dtype) {
  return info_of(dtype).name;
}

/// The dtype whose `field`, such as &DTypeInfo::name, is `text`; nothing for unknown and empty texts.
constexpr std::optional<DType> find_dtype(std::string_view DTypeInfo::*field, std::string_view text) {
  for (const DTypeInfo& info : dtypes)
    if (!text.empty() && info.*field == text) return info.dtype;
  return std::nullopt;
}

}  // namespace igpt::formats
