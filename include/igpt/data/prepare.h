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

class ImageSource;

struct PrepareOptions {
  std::filesystem::path data_dir = "data";
  /// Folder with the IDX files, plain or .gz, or URL of a mirror; of CIFAR-10 its archive or a folder with that or with
  /// its .bin files, or a URL; the folder of pictures. Empty: see prepare.
  std::string source;
  std::string dtype = "auto";  ///< "auto": the smallest integer type that holds the tokens; or "int64"
  bool force = false;          ///< write the files again even if they exist
  int64_t num_pixels = 28;     ///< a side, to which pictures of a folder are resized
  Palette palette = Palette::grey(16);
  std::string palette_file;  ///< the file that holds the palette, for messages
  /// Whether k-means finds the palette among the training images instead; num_vocab: of how many colours (0: 16 for
  /// grey images, 512 for RGB).
  bool kmeans = false;
  int64_t num_vocab = 0;
  int64_t seed = 0;  ///< of k-means, and of which pictures of a folder become the test set
  std::vector<DatasetSource> known = known_datasets();  ///< datasets whose files are recognised in messages
  std::string made_by;                                  ///< for dataset.yaml: program and version
  DownloadOptions download;                             ///< its `progress` is replaced by the one below

  /// Receives a line about what happens, for a log.
  std::function<void(const std::string& line)> note;
  /// Receives the progress of a download in bytes; an exception from it ends the work. Also called with (0, 0) now and
  /// then while images are converted and while waiting for another program.
  std::function<void(const std::string& file, uint64_t done, uint64_t total)> progress;

  /// Calls `progress` with (0, 0); valid as long as this object.
  WaitCallback waiting() const {
    return [this] {
      if (progress) progress("", 0, 0);
    };
  }
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

/// Writes a dataset to `data_dir` as {train,test}_{x,y}.npy with dataset.yaml: finds its IDX files, checks their
/// SHA-256, quantizes the images to tokens and replaces the set as a whole. x (N, h, w), y (N). The IDX files come from
/// data_dir/raw/NAME, else from the distribution's folders, else from the mirrors, which fill data_dir/raw/NAME; or
/// only from `source`, if given. Each may be plain or .gz, have a dot before `idx`, and lie in a folder of its name.
/// CIFAR-10 and folders of pictures are read as image_source.h says; colours become greys where the palette is grey.
/// Throws igpt::Error, igpt::InputError or igpt::UsageError; data_dir then holds what it held before.
PrepareResult prepare(const DatasetSource& dataset, const PrepareOptions& options);

/// The same for the images of a source.
PrepareResult prepare(ImageSource& source, const PrepareOptions& options);

}  // namespace igpt::data
