#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "igpt/data/dataset_folder.h"
#include "igpt/data/datasets.h"
#include "igpt/data/download.h"
#include "igpt/data/palette.h"

namespace igpt::data {

struct PrepareOptions {
  std::filesystem::path data_dir = "data";
  std::string source;          ///< folder with the IDX files, plain or .gz, or URL of a mirror; empty: see prepare
  std::string dtype = "auto";  ///< "auto": the smallest integer type that holds the tokens; or "int64"
  bool force = false;          ///< write the files again even if they exist
  Palette palette = Palette::grey(16);
  std::string palette_file;  ///< the file that holds the palette, for messages
  /// Whether k-means finds the palette among the training images instead; num_vocab: of how many colours (0: 16 for
  /// grey images, 512 for RGB), `seed`: of its random numbers.
  bool kmeans = false;
  int64_t num_vocab = 0;
  int64_t seed = 0;
  std::vector<DatasetSource> known = known_datasets();  ///< datasets whose files are recognised in messages
  std::string made_by;                                  ///< for dataset.yaml: program and version
  DownloadOptions download;                             ///< its `progress` is replaced by the one below

  /// Receives a line about what happens, for a log.
  std::function<void(const std::string& line)> note;
  /// Receives the progress of a download in bytes; an exception from it ends the work. Also called with (0, 0) now and
  /// then while images are converted and while waiting for another program.
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

/// Images and labels before they are quantized.
struct RawImages {
  struct Part {
    std::vector<uint8_t> pixels;  ///< (N, side, side, channels)
    std::vector<int64_t> labels;  ///< (N)
  };
  int64_t side = 0;
  int64_t channels = 1;  ///< 1 grey, 3 RGB
  Part train, test;
};

/// Writes images to `data_dir` as prepare does, with a dataset.yaml that has dataset, classes and raw of `about`. RGB
/// images become grey where the palette is grey. Throws as prepare does.
PrepareResult prepare_images(const DatasetInfo& about, RawImages images, const PrepareOptions& options);

/// Writes a dataset to `data_dir` as {train,test}_{x,y}.npy with dataset.yaml: finds its IDX files, checks their
/// SHA-256, quantizes the images to tokens and replaces the set as a whole. x (N, h, w), y (N). The IDX files come from
/// data_dir/raw/NAME, else from the distribution's folders, else from the mirrors, which fill data_dir/raw/NAME; or
/// only from `source`, if given. Each may be plain or .gz, have a dot before `idx`, and lie in a folder of its name.
/// Throws igpt::Error, igpt::InputError or igpt::UsageError; data_dir then holds what it held before.
PrepareResult prepare(const DatasetSource& dataset, const PrepareOptions& options);

}  // namespace igpt::data
