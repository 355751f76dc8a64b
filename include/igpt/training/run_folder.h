#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "igpt/fields.h"
#include "igpt/formats/append_file.h"
#include "igpt/formats/file_lock.h"

namespace igpt::training {

/// One row of metrics.csv; what was not measured at this step stays empty.
struct Metrics {
  int64_t step = 0, epoch = 0;
  std::optional<double> train_loss = {}, learning_rate = {}, val_loss = {}, val_acc = {};
};

/// Throws igpt::UsageError on a name that is not a plain folder name.
void check_run_name(const std::string& name);

/// The checkpoint that `run train --resume` asks for: `resume` itself; of a run's folder, or its folder of checkpoints,
/// the last.ckpt; of the folder of a name the newest last.ckpt of its runs (folders are looked for in `log_dir`, too);
/// and for "last" the newest of the runs of `name`, or of all runs where that is empty. Empty where "last" finds none.
/// Throws igpt::InputError on a folder without last.ckpt, igpt::Error on one that cannot be read.
std::string checkpoint_to_resume(const std::string& asked, const std::filesystem::path& log_dir,
                                 const std::string& name);

/// log_dir/NAME/version_N: hparams.yaml, metrics.csv, TensorBoard events, checkpoints/{best,last}.ckpt. Locked (flock)
/// as long as the object or its process lives: only one training writes to it at a time. Where the file system has no
/// locks, a note says so.
class RunFolder {
 public:
  /// A new folder with the next free version number; two programs that ask at once get different ones. Throws
  /// igpt::UsageError on a name that is not a plain folder name, igpt::Error when it cannot be created.
  static RunFolder create(const std::filesystem::path& log_dir, const std::string& name,
                          const formats::NoteCallback& note = {});

  /// The folder of a run's checkpoint (FOLDER/checkpoints/last.ckpt), whatever links and dots lead there. Throws
  /// igpt::InputError when the file does not lie in such a folder, or the folder has no hparams.yaml.
  static std::filesystem::path path_of(const std::filesystem::path& checkpoint);

  /// That folder, as it was at `step`: later rows of its metrics.csv are dropped, and one that is not whole. Throws
  /// as path_of, and igpt::Error when another program trains in it for longer than `patience` or its files cannot be
  /// written.
  static RunFolder reopen(const std::filesystem::path& checkpoint, int64_t step, const formats::NoteCallback& note = {},
                          std::chrono::seconds patience = {});

  /// What create() and reopen() would find, without writing anything: throws igpt::Error where the folder of a new run
  /// cannot be made, or where another program trains in that of a resumed one.
  static void expect_creatable(const std::filesystem::path& log_dir, const std::string& name);
  static void expect_free(const std::filesystem::path& checkpoint);

  /// A run's folder that another process writes: for its paths alone.
  static RunFolder of_another_process(std::filesystem::path path);

  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  ~RunFolder();

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path best_checkpoint() const { return path_ / "checkpoints" / "best.ckpt"; }
  std::filesystem::path last_checkpoint() const { return path_ / "checkpoints" / "last.ckpt"; }

  void write_hparams(const FieldValues& settings) const;

  /// The steps of the checkpoints that were kept beside best.ckpt, and the path of one.
  std::vector<int64_t> kept_steps() const;
  std::filesystem::path kept_checkpoint(int64_t step) const;

  /// val_loss, or val_acc, of each step in metrics.csv that was validated.
  std::map<int64_t, double> validations(bool accuracy) const;

  /// Appends a row to metrics.csv, where a reader sees it at once. Throws igpt::Error when it cannot be written; then
  /// nothing of it is there.
  void add(const Metrics& metrics);

  /// Waits until the rows are on the disk.
  void flush_metrics();

 private:
  RunFolder() = default;
  RunFolder(std::filesystem::path path, const formats::NoteCallback& note, std::chrono::seconds patience = {});

  std::filesystem::path metrics_path() const { return path_ / "metrics.csv"; }
  void begin_metrics(const std::string& content);

  std::filesystem::path path_;
  int lock_ = -1;
  std::optional<formats::AppendFile> metrics_;
};

}  // namespace igpt::training
