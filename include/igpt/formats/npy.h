#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace igpt::formats {

/// What an .npy file says of itself (NumPy Enhancement Proposal 1; versions 1.0, 2.0 and 3.0).
struct NpyHeader {
  char kind = 'u';        ///< 'u', 'i', 'b' (bool) or 'f'
  int64_t item_size = 1;  ///< bytes: 1, 2, 4 or 8 ('f': 4 or 8; 'b': 1)
  bool big_endian = false;
  std::vector<int64_t> shape;  ///< C order; empty for a single number
  int64_t count = 1;           ///< product of shape
  uint64_t data_offset = 0;    ///< bytes before the first value

  std::string dtype() const;  ///< "uint8", "int64", "float32", "bool"
};

template <class T>
struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<T> values;  ///< in C order
};

/// Reads and checks the header: known dtype in any spelling that numpy.load takes, C order, and a file size that is
/// exactly what it says. Throws igpt::InputError.
NpyHeader read_npy_header(const std::filesystem::path& path);

constexpr const char* kGiveAnother = "give another file";

/// Reads whole numbers of any integer dtype or bool, either byte order. Throws igpt::InputError when it holds floats,
/// or a value below `minimum` or above `maximum`, which it names with its place; `cure` ends both messages. Memory: the
/// result and 1 MiB.
NpyArray<uint8_t> read_npy_uint8(const std::filesystem::path& path, uint8_t maximum = 255,
                                 const std::string& cure = kGiveAnother);
NpyArray<int16_t> read_npy_int16(const std::filesystem::path& path, int16_t minimum = INT16_MIN,
                                 int16_t maximum = INT16_MAX, const std::string& cure = kGiveAnother);
NpyArray<int64_t> read_npy_int64(const std::filesystem::path& path, int64_t minimum = INT64_MIN,
                                 int64_t maximum = INT64_MAX, const std::string& cure = kGiveAnother);

/// Reads any of the dtypes.
NpyArray<double> read_npy_float64(const std::filesystem::path& path);

/// The header of version 1.0 for values of `dtype` ("uint8", "int64" or "float64"), little-endian, C order; the values
/// follow.
std::string npy_header(const std::string& dtype, const std::vector<int64_t>& shape);

/// Write a file of version 1.0, atomically. Throws igpt::InputError when `shape` is not that of `values`, igpt::Error
/// when it cannot be written.
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const uint8_t> values);
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const int64_t> values);
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const double> values);

}  // namespace igpt::formats
