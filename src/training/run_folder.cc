#include "igpt/training/run_folder.h"

#include <fcntl.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <thread>

#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/entries.h"
#include "igpt/formats/file_lock.h"
#include "igpt/runs/metrics.h"
#include "igpt/runs/run_list.h"

namespace igpt::training {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHeader = "step,epoch,train_loss,learning_rate,val_loss,val_acc\n";
constexpr const char* kOtherPlace = "; choose another place with --log_dir";
constexpr size_t kLongestName = 200;  // bytes; file systems take 255

void create_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(folder.string() + ": cannot create the folder: " + error.message() + kOtherPlace);
}

// Shortest text that reads back as the same number.
std::string number(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

std::string cell(const std::optional<double>& value) {
  return value ? number(*value) : "";
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// `checkpoint` itself, as long as no links and no dots are in the way, else its path without them; of its own name a
// link is followed only where it does not lie in a run's folder (a run may keep its checkpoints elsewhere).
fs::path in_run_folder(const fs::path& checkpoint) {
  constexpr int kMostLinks = 40;  // as the kernel has it
  std::error_code error;
  fs::path place = fs::absolute(checkpoint);
  // Of a run whose folder of checkpoints is a link.
  if (const fs::path folder = place.parent_path();
      folder.filename() == "checkpoints" && fs::is_symlink(folder, error)) {
    const fs::path run = fs::canonical(folder.parent_path(), error);
    if (!error && is_there(run / "hparams.yaml")) return run / "checkpoints" / place.filename();
  }
  for (int links = 0; links <= kMostLinks; ++links) {
    const fs::path folder = fs::canonical(place.parent_path(), error);
    if (error) break;
    place = folder / place.filename();
    if (folder.filename() == "checkpoints" && is_there(folder.parent_path() / "hparams.yaml")) {
      const fs::path plain = checkpoint.lexically_normal();
      const bool as_given = plain.parent_path().has_parent_path() && fs::absolute(plain) == place;
      return as_given ? plain : place;
    }
    const fs::path next = fs::read_symlink(place, error);
    if (error) break;
    place = folder / next;
  }
  const fs::path folder = fs::weakly_canonical(place, error).parent_path();
  if (!error && folder.filename() == "checkpoints")
    throw InputError(
        (folder.parent_path() / "hparams.yaml").string() +
        ": no such file, but it belongs to the run whose checkpoint you resume; put it back, or start a new "
        "run from the weights with --pretrained " +
        checkpoint.string());
  throw InputError(checkpoint.string() +
                   ": does not lie in a run's folder (NAME/version_N/checkpoints); resume it there, or start a new run "
                   "from its weights with --pretrained");
}

int64_t next_version(const fs::path& folder) {
  int64_t next = 0;
  for (const auto& entry : formats::entries_of(folder))
    if (const auto version = runs::version_of(entry)) next = std::max(next, *version + 1);
  return next;
}

fs::path last_checkpoint_of(const fs::path& run) {
  return run / "checkpoints" / "last.ckpt";
}

// That of the runs in these folders of names that was written last; empty where there is none.
fs::path newest_last_checkpoint(const std::vector<fs::path>& of_names) {
  constexpr bool kMayBeMissing = true;
  fs::path newest;
  fs::file_time_type newest_time;
  for (const auto& of_name : of_names)
    for (const auto& run : runs::folders_in(of_name, kMayBeMissing)) {
      std::error_code error;
      const auto time = fs::last_write_time(last_checkpoint_of(run), error);
      if (error || (!newest.empty() && time <= newest_time)) continue;
      newest = last_checkpoint_of(run);
      newest_time = time;
    }
  return newest;
}

}  // namespace

std::string checkpoint_to_resume(const std::string& asked, const fs::path& log_dir, const std::string& name) {
  constexpr bool kMayBeMissing = true;
  if (asked == "last")
    return newest_last_checkpoint(name.empty() ? runs::folders_in(log_dir, kMayBeMissing) : std::vector{log_dir / name})
        .string();
  std::error_code ignored;
  const fs::path places[] = {asked, log_dir / asked};
  if (!fs::is_directory(places[0], ignored) && (fs::exists(asked, ignored) || !fs::is_directory(places[1], ignored)))
    return asked;
  for (const auto& place : places) {
    if (!fs::is_directory(place, ignored)) continue;
    for (const auto& last : {last_checkpoint_of(place), place / "last.ckpt"})
      if (fs::exists(last, ignored)) return last.string();
    if (const auto of_name = newest_last_checkpoint({place}); !of_name.empty()) return of_name.string();
  }
  throw InputError((fs::is_directory(places[0], ignored) ? places[0] : places[1]).string() +
                   ": no run with a checkpoints/last.ckpt to go on from; `run list` shows the runs, and run train "
                   "without --resume begins one");
}

void check_run_name(const std::string& name) {
  if (name.size() > kLongestName)
    throw UsageError("--name " + name.substr(0, 40) + "...: has " + std::to_string(name.size()) +
                     " bytes, and a folder's name here at most " + std::to_string(kLongestName));
  const bool plain = !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
                     std::none_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (!plain) throw UsageError("--name " + name + ": must be a plain folder name, without / and control characters");
}

RunFolder::RunFolder(fs::path path, const formats::NoteCallback& note, std::chrono::seconds patience)
    : path_(std::move(path)) {
  using std::chrono::steady_clock;
  lock_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  constexpr std::chrono::milliseconds kLook(200);  // `run list` has the lock for a moment
  const auto deadline = steady_clock::now() + std::max<steady_clock::duration>(patience, kLook);
  while (true) {
    if (lock_ < 0 || formats::take_lock(lock_, formats::LockKind::kExclusive, path_, note)) return;
    if (steady_clock::now() >= deadline) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ::close(lock_);
  throw Error(path_.string() + ": another program is training in this folder; wait for its end or stop it first");
}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)), metrics_(std::move(other.metrics_)) {}

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

void RunFolder::expect_creatable(const fs::path& log_dir, const std::string& name) {
  fs::path folder = fs::absolute(log_dir / name);
  std::error_code ignored;
  while (!fs::exists(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
  if (!fs::is_directory(folder, ignored) || ::access(folder.c_str(), W_OK | X_OK) != 0)
    throw Error((log_dir / name).string() + ": cannot create the folder: " +
                (fs::is_directory(folder, ignored) ? std::strerror(errno) : folder.string() + " is no folder") +
                kOtherPlace);
}

void RunFolder::expect_free(const fs::path& checkpoint) {
  const RunFolder run(path_of(checkpoint), {});
}

RunFolder RunFolder::of_another_process(fs::path path) {
  RunFolder run;
  run.path_ = std::move(path);
  return run;
}

RunFolder RunFolder::create(const fs::path& log_dir, const std::string& name, const formats::NoteCallback& note) {
  check_run_name(name);
  const fs::path folder = log_dir / name;
  create_folders(folder);
  for (int64_t version = next_version(folder);; ++version) {
    const fs::path path = folder / ("version_" + std::to_string(version));
    std::error_code error;
    const bool created = fs::create_directory(path, error);  // false: another program was faster
    if (error) throw Error(path.string() + ": cannot create the folder: " + error.message());
    if (!created) continue;
    RunFolder run(path, note);
    create_folders(path / "checkpoints");
    run.begin_metrics(kHeader);
    return run;
  }
}

fs::path RunFolder::path_of(const fs::path& checkpoint) {
  return in_run_folder(checkpoint).parent_path().parent_path();
}

RunFolder RunFolder::reopen(const fs::path& checkpoint, int64_t step, const formats::NoteCallback& note,
                            std::chrono::seconds patience) {
  RunFolder run(path_of(checkpoint), note, patience);
  for (const auto& file : {run.best_checkpoint(), run.last_checkpoint(), run.metrics_path()}) {
    formats::remove_abandoned(file);
    const formats::AtomicFile writable(file);  // better known before the training than after
  }
  std::string rows = kHeader;
  std::ifstream file(run.metrics_path());
  std::string line;
  std::getline(file, line);  // the header
  while (std::getline(file, line) && !file.eof()) {
    int64_t row_step = 0;
    const auto parsed = std::from_chars(line.data(), line.data() + line.size(), row_step);
    if (parsed.ec == std::errc() && row_step <= step) rows += line + "\n";
  }
  run.begin_metrics(rows);
  return run;
}

void RunFolder::begin_metrics(const std::string& content) {
  formats::write_atomically(metrics_path(), content);
  metrics_.emplace(metrics_path());
}

void RunFolder::write_hparams(const FieldValues& settings) const {
  YAML::Emitter yaml;
  yaml << YAML::BeginMap;
  for (const auto& [name, value] : settings) yaml << YAML::Key << name << YAML::Value << to_text(value);
  yaml << YAML::EndMap;
  formats::write_atomically(path_ / "hparams.yaml", std::string(yaml.c_str()) + "\n");
}

std::vector<int64_t> RunFolder::kept_steps() const {
  std::vector<int64_t> steps;
  for (const auto& entry : formats::entries_of(path_ / "checkpoints")) {
    const std::string name = entry.filename().string();
    int64_t step = 0;
    if (std::sscanf(name.c_str(), "step_%" SCNd64, &step) == 1 && kept_checkpoint(step).filename() == name)
      steps.push_back(step);
  }
  return steps;
}

fs::path RunFolder::kept_checkpoint(int64_t step) const {
  return path_ / "checkpoints" / ("step_" + std::to_string(step) + ".ckpt");
}

std::map<int64_t, double> RunFolder::validations(bool accuracy) const {
  std::map<int64_t, double> scores;
  for (const auto& row : runs::read_metrics(metrics_path(), runs::Damaged::leave_out))
    if (const auto& score = accuracy ? row.val_acc : row.val_loss) scores[row.step] = *score;
  return scores;
}

void RunFolder::add(const Metrics& metrics) {
  metrics_->append(std::to_string(metrics.step) + "," + std::to_string(metrics.epoch) + "," + cell(metrics.train_loss) +
                   "," + cell(metrics.learning_rate) + "," + cell(metrics.val_loss) + "," + cell(metrics.val_acc) +
                   "\n");
}

void RunFolder::flush_metrics() {
  metrics_->flush();
}

}  // namespace igpt::training
