#pragma once

#include <array>
#include <string>

#include "igpt/data/prepare.h"

namespace igpt::data {

/// The decompressed IDX files of a data set, in the order of DatasetSource::files, from where prepare() says; they have
/// the right bytes. Throws igpt::Error or igpt::InputError.
std::array<std::string, 4> read_raw_files(const DatasetSource& dataset, const PrepareOptions& options);

}  // namespace igpt::data
