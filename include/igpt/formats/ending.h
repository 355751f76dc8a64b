#pragma once

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string>

namespace igpt::formats {

/// The extension of a file's name in small letters: ".png" of "A.PNG"; empty where it has none.
inline std::string ending_of(const std::filesystem::path& file) {
  std::string ending = file.extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return ending;
}

}  // namespace igpt::formats
