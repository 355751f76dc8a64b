#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "igpt/formats/npy.h"
#include "temporary_folder.h"

namespace igpt::testing {

/// The values of an .npy file of dtype float64.
inline std::vector<double> floats_of(const std::filesystem::path& path) {
  const formats::NpyHeader header = formats::read_npy_header(path);
  const std::string bytes = read_bytes(path).substr(header.data_offset);
  std::vector<double> values(header.dtype == formats::DType::float64 ? bytes.size() / sizeof(double) : 0);
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(double));
  return values;
}

}  // namespace igpt::testing
