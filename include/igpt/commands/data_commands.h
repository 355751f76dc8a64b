#pragma once

#include "igpt/data/prepare.h"

namespace igpt {

/// The functions of the library libigpt_data.so, which needs libcurl, libarchive and what these need: `prepare_data`
/// loads it only when there is work to do, since these forty libraries take 15 ms to load.
struct DataCommands {
  const char* version;  ///< of the toolkit; a library of another version is refused
  data::PrepareResult (*prepare)(const data::DatasetSource& dataset, const data::PrepareOptions& options);
};

/// Loads the library on the first call. Throws igpt::Error when it cannot be loaded.
const DataCommands& data_commands();

}  // namespace igpt
