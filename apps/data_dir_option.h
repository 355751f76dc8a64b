#pragma once

#include <filesystem>
#include <string>

#include "igpt/cli/options.h"
#include "igpt/error.h"

namespace igpt {

/// --data_dir: where the files are that --train_x, --train_y, --test_x and --test_y do not name.
class DataDirOption {
 public:
  void add(cli::Options& options) {
    options.add("data_dir", folder_, "folder of the files of prepare_data that are not named one by one", {},
                {.group = "Data", .of_run = false, .placeholder = "DIR"});
  }

  /// After parsing, and before anything else fills in options.
  void apply(cli::Options& options) const {
    if (!options.given("data_dir")) return;
    std::error_code ignored;
    if (std::filesystem::exists(folder_, ignored) && !std::filesystem::is_directory(folder_, ignored))
      throw UsageError("--data_dir " + folder_ + ": is no folder; name the one that holds train_x.npy and its like");
    const std::string separator = folder_.ends_with('/') ? "" : "/";
    for (const char* file : {"train_x", "train_y", "test_x", "test_y"})
      if (options.attributes(file)) options.fill(file, folder_ + separator + file + ".npy", "--data_dir");
  }

 private:
  std::string folder_ = "data";
};

}  // namespace igpt
