#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "igpt/error.h"

namespace igpt::formats {

/// What lies in a folder, in no order. Throws igpt::Error that names the folder where it cannot be read.
inline std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> entries;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    entries.push_back(entry->path());
  if (error) throw Error(folder.string() + ": cannot be read: " + error.message() + "; check that you may read it");
  return entries;
}

}  // namespace igpt::formats
