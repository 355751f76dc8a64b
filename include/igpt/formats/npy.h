#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "igpt/formats/dtype.h"

namespace igpt::formats {

/// What an .npy file says of itself (NumPy Enhancement Proposal 1; versions 1.0, 2.0 and 3.0).
struct NpyHeader {
  DType dtype = DType::uint8;  ///< an integer type, boolean, float32 or float64
  bool big_endian = false;
  std::vector<int64_t> shape;  ///< C order; empty for a single number
  int64_t count = 1;           ///< product of shape
  uint64_t data_offset = 0;    ///< bytes before the first value
};

template <class T>
struct NpyArray {
  std::vector<int64_t> shape;
  std::vector<T> values;  ///< in C order
};

/// Reads and checks the header: known dtype in any spelling that numpy.load takes, C order, and a file size that is
/// exactly what it says. Throws igpt::InputError.
NpyHeader read_npy_header(const std::filesystem::path& path);

/// Reads whole numbers of any integer dtype or bool, in either byte order, as T (uint8_t, int16_t or int64_t). Throws
/// igpt::InputError when the file holds floats, or a value below `minimum` or above `maximum`, which it names with its
/// place; `cure` ends both messages. Takes 1 MiB of memory beyond the result.
template <class T>
NpyArray<T> read_npy(const std::filesystem::path& path, T minimum = std::numeric_limits<T>::min(),
                     T maximum = std::numeric_limits<T>::max(), const std::string& cure = "give another file");

/// Reads float32 or float64 as double. Throws igpt::InputError when the file holds whole numbers.
NpyArray<double> read_npy_floats(const std::filesystem::path& path);

/// The header of version 1.0 for little-endian values of a dtype that numpy has, in C order; the values follow.
std::string npy_header(DType dtype, const std::vector<int64_t>& shape);

/// Write a file of version 1.0, atomically. Throws igpt::InputError when `shape` is not that of `values`, igpt::Error
/// when it cannot be written.
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const uint8_t> values);
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const uint16_t> values);
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const int64_t> values);
void write_npy(const std::filesystem::path& path, const std::vector<int64_t>& shape, std::span<const double> values);

}  // namespace igpt::formats
