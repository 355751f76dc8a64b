#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "igpt/data/datasets.h"
#include "igpt/data/download.h"
#include "igpt/data/palette.h"

namespace igpt::data {

struct PrepareOptions {
  std::filesystem::path data_dir = "data";
  std::string source;  ///< a folder with the IDX files, plain or .gz, or the URL of a mirror; empty: see prepare
  std::string dtype = "auto";  ///< "auto": the smallest integer type that holds the tokens; or "int64"
  bool force = false;          ///< make the files anew even if they are there
  Palette palette = Palette::grey(16);
  std::string palette_file;                             ///< the checkpoint that it comes from, for messages
  std::vector<DatasetSource> known = known_datasets();  ///< whose files are recognised where others are wanted
  std::string made_by;                                  ///< goes into dataset.yaml: program and version
  DownloadOptions download;                             ///< its `progress` is replaced by the one below

  /// One line on what happens now, for a log.
  std::function<void(const std::string& line)> note;
  /// Bytes of a download; what it throws ends the work. Also called (0, 0) now and then while the images are converted
  /// or another program is waited for.
  std::function<void(const std::string& file, uint64_t done, uint64_t total)> progress;
};

struct PreparedFile {
  std::filesystem::path path;
  std::string dtype;
  std::vector<int64_t> shape;
};

struct PrepareResult {
  bool already_there = false;       ///< data_dir held exactly this dataset; nothing was written
  std::vector<PreparedFile> files;  ///< train_x.npy, train_y.npy, test_x.npy, test_y.npy
};

/// Brings a dataset into `data_dir` as {train,test}_{x,y}.npy with dataset.yaml: finds its IDX files (in
/// data_dir/raw/NAME, then in the distribution's folders, then from the mirrors, which fill data_dir/raw/NAME; or only
/// in `source`; each file plain or .gz, also with a dot before `idx`, and in a folder of its name), checks their
/// SHA-256, quantizes the images to tokens and replaces the set as a whole. x (N, h, w), y (N). Throws igpt::Error,
/// igpt::InputError or igpt::UsageError; data_dir then holds what it held before.
PrepareResult prepare(const DatasetSource& dataset, const PrepareOptions& options);

}  // namespace igpt::data
