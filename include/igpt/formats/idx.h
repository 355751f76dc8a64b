#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace igpt::formats {

/// An array of bytes in an IDX file, the format of MNIST.
struct IdxArray {
  std::vector<int64_t> shape;       ///< (N, h, w) for images, (N) for labels
  std::span<const uint8_t> values;  ///< in C order; points into the bytes that were parsed
};

/// Parses an IDX file (yann.lecun.com/exdb/mnist, "the IDX file format") of unsigned bytes, type 0x08, with 1 to 4
/// dimensions. The size must be exactly what the header says. `name` starts messages; throws igpt::InputError.
IdxArray parse_idx(std::string_view bytes, const std::string& name);

}  // namespace igpt::formats
