#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "igpt/data/palette.h"
#include "igpt/formats/file_lock.h"

namespace igpt::data {

/// Called now and then while waiting for a lock; what it throws ends the waiting.
using WaitCallback = std::function<void()>;

using formats::NoteCallback;

/// flock(2) on a file, held as long as this object lives (and by no program that died).
class FileLock {
 public:
  using Kind = formats::LockKind;

  /// Waits until the lock is free. An exclusive lock creates the file. Throws igpt::Error that names it. A file system
  /// without locks is noted (formats::take_lock).
  FileLock(const std::filesystem::path& file, Kind kind, const WaitCallback& waiting = {},
           const NoteCallback& note = {});
  FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  int descriptor_ = -1;
};

/// While it lives, no prepare_data replaces the dataset files in the folders of `files`: what is read meanwhile is one
/// complete set. A set whose writer died half-way through is completed first. Folders that no prepare_data wrote to
/// need no lock.
class ReadLock {
 public:
  explicit ReadLock(const std::vector<std::filesystem::path>& files, const WaitCallback& waiting = {},
                    const NoteCallback& note = {});

 private:
  std::vector<FileLock> locks_;
};

/// Throws igpt::Error that names the first of the dataset's files in `folder` that cannot be written: a mount point of
/// its own, a folder, a link to nowhere, or to the file of another. A folder that is not there is fine.
void expect_replaceable(const std::filesystem::path& folder);

/// Replaces the files of a dataset in one folder all together or not at all:
/// written and flushed in FOLDER/.incoming, which is renamed to FOLDER/.ready, from where they are moved to their
/// places; whoever takes the lock next completes a set that is .ready and forgets one that is .incoming. A place that
/// is a symbolic link stays one: its target, which may lie on another file system, is replaced by a copy, made before
/// the set becomes .ready and made again by whoever completes it.
class DatasetWriter {
 public:
  /// Creates the folder, waits for its lock, and clears what a killed writer left.
  explicit DatasetWriter(std::filesystem::path folder, const WaitCallback& waiting = {}, const NoteCallback& note = {});
  ~DatasetWriter();  ///< Without publish nothing has changed.

  /// Where the files of the new set are to be written.
  std::filesystem::path incoming() const;

  /// Puts the set in place.
  void publish();

 private:
  std::filesystem::path folder_;
  FileLock lock_;
};

/// What dataset.yaml says of the .npy files beside it.
struct DatasetInfo {
  struct File {
    std::string name, sha256;
    bool operator==(const File&) const = default;
  };
  std::string dataset;               ///< "fashion"
  Palette palette;                   ///< of the tokens
  std::string dtype;                 ///< of train_x.npy and the others: "uint8" or "int64"
  int64_t image_size = 28;           ///< pixels a side
  std::vector<std::string> classes;  ///< names of the labels
  std::vector<File> raw;             ///< the IDX files, decompressed
  std::vector<File> files;           ///< train_x.npy, train_y.npy, test_x.npy, test_y.npy
  std::string made_by;               ///< "igpt 0.1.0"
};

std::string to_yaml(const DatasetInfo& info);

/// Reads what to_yaml writes; `name` starts messages. Throws igpt::InputError for anything else.
DatasetInfo parse_dataset_info(const std::string& yaml, const std::string& name);

/// Reads FOLDER/dataset.yaml; nothing where there is none. Throws igpt::InputError when it is not what to_yaml writes.
std::optional<DatasetInfo> read_dataset_info(const std::filesystem::path& folder);

}  // namespace igpt::data
