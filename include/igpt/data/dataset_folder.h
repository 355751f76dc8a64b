#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "igpt/data/palette.h"
#include "igpt/formats/file_descriptor.h"
#include "igpt/formats/file_lock.h"

namespace igpt::data {

/// Called now and then while waiting for a lock; an exception from it ends the waiting.
using WaitCallback = std::function<void()>;

using formats::NoteCallback;

/// A flock(2) on a file, held as long as this object lives; it ends with its program.
class FileLock {
 public:
  using Kind = formats::LockKind;

  /// Waits until the lock is free. An exclusive lock creates the file. Throws igpt::Error that names it. Calls `note`
  /// where the file system has no locks (see formats::take_lock).
  FileLock(const std::filesystem::path& file, Kind kind, const WaitCallback& waiting = {},
           const NoteCallback& note = {});

 private:
  formats::FileDescriptor file_;
};

/// While it lives, no prepare_data replaces the dataset files in the folders of `files`, so that what is read meanwhile
/// is one complete set. A set whose writer died while moving it into place is completed first. Folders to which no
/// prepare_data has written need no lock.
class ReadLock {
 public:
  explicit ReadLock(const std::vector<std::filesystem::path>& files, const WaitCallback& waiting = {},
                    const NoteCallback& note = {});

 private:
  std::vector<FileLock> locks_;
};

/// Throws igpt::Error that names the first of the dataset's files in `folder` that cannot be replaced: a mount point, a
/// folder, or a link that leads nowhere or to the same file as another. A folder that does not exist is fine.
void expect_replaceable(const std::filesystem::path& folder);

/// Throws igpt::InputError that names the first of the images and labels in `folder` where no prepare_data has written
/// them: none of them is what dataset.yaml says (where one is, the others have changed, and are made again), or there
/// is no dataset.yaml and no DatasetWriter has published there.
void expect_own_files(const std::filesystem::path& folder);

/// Replaces the files of a dataset in one folder all together or not at all. They are written and flushed in
/// FOLDER/.incoming, which is renamed to FOLDER/.ready, from where they are moved to their places; whoever takes the
/// lock next completes a set that is .ready and removes one that is .incoming. A place that is a symbolic link stays
/// one: its target, which may lie on another file system, is replaced by a copy, which is made before the set becomes
/// .ready and again by whoever completes the set.
class DatasetWriter {
 public:
  /// Creates the folder, waits for its lock, and completes or removes what a killed writer left.
  explicit DatasetWriter(std::filesystem::path folder, const WaitCallback& waiting = {}, const NoteCallback& note = {});
  ~DatasetWriter();  ///< Without publish, nothing has changed.

  /// The folder in which to write the files of the new set.
  std::filesystem::path incoming() const;

  /// Puts the new set in place.
  void publish();

 private:
  std::filesystem::path folder_;
  FileLock lock_;
};

/// The content of dataset.yaml, which describes the .npy files beside it.
struct DatasetInfo {
  struct File {
    std::string name, sha256;
    bool operator==(const File&) const = default;
  };
  std::string dataset;                      ///< "fashion"
  Palette palette;                          ///< colours of the tokens
  std::optional<int64_t> kmeans_seed = {};  ///< of the k-means that found the palette among the training images
  std::string dtype;                        ///< of train_x.npy: "uint8", "uint16" or "int64"
  int64_t image_size = 28;                  ///< pixels a side
  std::vector<std::string> classes;         ///< names of the labels
  std::vector<File> raw;                    ///< the IDX files, decompressed
  std::vector<File> files;                  ///< train_x.npy, train_y.npy, test_x.npy, test_y.npy
  std::string made_by;                      ///< "igpt 0.1.0"
};

std::string to_yaml(const DatasetInfo& info);

/// Parses what to_yaml writes; `name` starts messages. Throws igpt::InputError for anything else.
DatasetInfo parse_dataset_info(const std::string& yaml, const std::string& name);

/// Reads FOLDER/dataset.yaml; nothing if it does not exist. Throws as parse_dataset_info does.
std::optional<DatasetInfo> read_dataset_info(const std::filesystem::path& folder);

}  // namespace igpt::data
