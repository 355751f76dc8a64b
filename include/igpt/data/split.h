#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "igpt/data/dataset_folder.h"

namespace igpt::data {

/// Images of a training or test set as tokens.
struct Split {
  int64_t count = 0;            ///< N, at least 1
  int64_t num_pixels = 0;       ///< pixels a side
  std::vector<uint8_t> tokens;  ///< (N, num_pixels, num_pixels)
  std::vector<int64_t> labels;  ///< (N), at least 0
};

/// Reads the files that prepare_data writes, or any like them: `x` (N, h, h) with any integer dtype and values in
/// [0, max_token], `y` (N), or an empty path where the labels are not needed. Takes a ReadLock for the two; whoever
/// reads several splits that belong together holds one for all of them. Throws igpt::InputError that names the file,
/// the cause and the cure.
Split read_split(const std::filesystem::path& x, const std::filesystem::path& y, uint8_t max_token = 255,
                 const WaitCallback& waiting = {});

}  // namespace igpt::data
