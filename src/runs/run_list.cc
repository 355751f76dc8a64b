#include "igpt/runs/run_list.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <string_view>
#include <system_error>
#include <tuple>

#include "igpt/error.h"
#include "igpt/fields.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/file_descriptor.h"
#include "igpt/formats/file_lock.h"
#include "igpt/formats/input_file.h"
#include "igpt/runs/metrics.h"

namespace igpt::runs {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kLargestSettings = uint64_t{64} << 10;
constexpr const char* kKilled = "ended without a word: it was killed, ran out of memory, or the machine went down";
constexpr const char* kEmpty =
    "its folder has neither hparams.yaml nor state.json: it never began, or they were removed";
constexpr const char* kUnreadable = "its state.json cannot be read";

std::optional<int64_t> whole(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return {};
  return value;
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

// Of the files that a training writes, the time of the last one; of a folder without them, its own.
fs::file_time_type written(const fs::path& run) {
  std::error_code error;
  fs::file_time_type newest = fs::file_time_type::min();
  for (const char* file : {"metrics.csv", "state.json", "hparams.yaml", "checkpoints/last.ckpt"})
    if (const auto time = fs::last_write_time(run / file, error); !error) newest = std::max(newest, time);
  if (newest == fs::file_time_type::min()) newest = fs::last_write_time(run, error);
  return newest;
}

// What the folder's lock and the training's own words say of it.
void find_state(RunInfo& info) {
  const formats::FileDescriptor folder(::open(info.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) throw Error(info.folder.string() + ": cannot be read: " + std::strerror(errno));
  const auto lock = formats::try_lock(folder.get(), formats::LockKind::kShared);
  const auto record = read_state(info.folder);
  if (record) info.step = std::max(info.step.value_or(0), record->step);
  if (lock == formats::Lock::kHeld) {
    info.state = State::training;
  } else if (record && (record->state != State::training || lock == formats::Lock::kUnknown)) {
    info.state = record->state;
    info.reason = record->reason;
  } else if (record) {
    info.state = State::failed;
    info.reason = kKilled;
  } else {  // of a version that left no words, or they are lost
    const bool finished = info.steps && info.step.value_or(0) >= *info.steps;
    const bool lost = is_file(info.folder / "state.json"), empty = !info.steps && !lost;
    info.state = finished ? State::finished : lost || empty ? State::failed : State::stopped;
    if (!finished) info.reason = lost ? kUnreadable : empty ? kEmpty : "";
  }
}

// Its newest version with a metrics.csv; empty where there is none.
fs::path newest_version(const fs::path& of_name) {
  fs::path newest;
  int64_t largest = -1;
  for (const fs::path& folder : folders_in(of_name))
    if (const auto version = version_of(folder); version && *version > largest && is_file(folder / "metrics.csv")) {
      newest = folder;
      largest = *version;
    }
  return newest;
}

// NAME/version_N of a run's folder, whatever path leads there.
std::string label_of(const fs::path& folder) {
  std::error_code error;
  fs::path place = fs::canonical(folder, error);
  if (error) place = folder;
  return version_of(place) ? (place.parent_path().filename() / place.filename()).string() : place.filename().string();
}

FoundRun in_folder(const fs::path& folder) {
  FoundRun found{.label = label_of(folder), .metrics = folder / "metrics.csv", .settings = read_settings(folder)};
  found.has_settings = is_file(folder / "hparams.yaml");
  return found;
}

std::optional<FoundRun> at(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    if (is_file(path / "metrics.csv")) return in_folder(path);
    const fs::path newest = newest_version(path);
    return newest.empty() ? std::nullopt : std::optional(in_folder(newest));
  }
  if (!fs::exists(path, error)) return {};
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (path.filename() == "metrics.csv" && is_file(folder / "hparams.yaml")) return in_folder(folder);
  return FoundRun{.label = path.stem().string(), .metrics = path};
}

// "; there are a, b and others"
std::string names_there(const fs::path& log_dir) try {
  constexpr size_t kShown = 5;
  std::vector<std::string> names;
  for (const fs::path& folder : folders_in(log_dir))
    if (!newest_version(folder).empty()) names.push_back(formats::printable(folder.filename().string()));
  std::ranges::sort(names);
  if (names.empty()) return "; there are no runs with losses, `run train` makes them";
  if (names.size() > kShown) {
    names.resize(kShown);
    names.emplace_back("others");
  }
  return "; there are " + in_words(names, "and") + ", see `run list`";
} catch (const Error&) {
  return "; name the folder of your runs with --log_dir";
}

}  // namespace

std::vector<fs::path> folders_in(const fs::path& folder, bool may_be_missing) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (std::error_code ignored; entry->is_directory(ignored)) found.push_back(entry->path());
  const bool is_missing = error == std::errc::no_such_file_or_directory;
  if (error && !(may_be_missing && is_missing))
    throw Error(folder.string() + ": cannot be read: " + error.message() + "; " +
                (is_missing ? "" : "check that you may read it, or ") + "name another folder with --log_dir");
  return found;
}

std::optional<int64_t> version_of(const fs::path& folder) {
  constexpr std::string_view kStart = "version_";
  const std::string name = folder.filename().string();
  if (!name.starts_with(kStart)) return {};
  return whole(std::string_view(name).substr(kStart.size()));
}

// Line by line: the file is written flat, and nothing else in it is needed.
RunSettings read_settings(const fs::path& run) try {
  RunSettings settings;
  const std::string text = formats::read_file(run / "hparams.yaml", kLargestSettings);
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    const size_t colon = line.find(": ");
    if (colon == line.npos) continue;
    const std::string_view name = line.substr(0, colon), value = line.substr(colon + 2);
    if (name == "steps") settings.steps = whole(value);
    if (name == "batch_size") settings.batch_size = whole(value).value_or(0);
    if (name == "accumulate") settings.accumulate = whole(value).value_or(1);
    if (name == "classify") settings.classify = value == "true";
  }
  return settings;
} catch (const Error&) {
  return {};
}

RunInfo describe_run(const fs::path& folder) {
  RunInfo info{.folder = folder, .name = folder.parent_path().filename().string()};
  info.version = version_of(folder).value_or(0);
  const RunSettings settings = read_settings(folder);
  info.steps = settings.steps;
  info.classify = settings.classify;
  try {
    const auto rows = read_metrics(folder / "metrics.csv", Damaged::leave_out);
    for (const MetricsRow& row : rows) info.step = std::max(info.step.value_or(0), row.step);
    if (const MetricsRow* best = best_row(rows, info.classify)) {
      info.best_step = best->step;
      info.best_score = info.classify ? *best->val_acc : *best->val_loss;
    }
  } catch (const Error&) {  // not there yet
  }
  find_state(info);
  const std::chrono::duration<double> age = fs::file_time_type::clock::now() - written(folder);
  info.age = std::max(0.0, age.count());
  return info;
}

std::vector<RunInfo> list_runs(const fs::path& log_dir, const std::function<void(const std::string&)>& note) {
  std::vector<RunInfo> runs;
  const auto add = [&](const fs::path& folder) {
    if (version_of(folder)) runs.push_back(describe_run(folder));
  };
  const auto or_note = [&](const std::function<void()>& look) {
    try {
      look();
    } catch (const Error& error) {
      if (note) note(error.what());
    }
  };
  for (const fs::path& of_name : folders_in(log_dir))
    or_note([&] {
      if (version_of(of_name))
        return add(fs::absolute(of_name).lexically_normal());  // log_dir is the folder of one name
      for (const fs::path& folder : folders_in(of_name)) or_note([&] { add(folder); });
    });
  std::ranges::sort(runs, {}, [](const RunInfo& run) { return std::tuple(run.age, run.name, -run.version); });
  return runs;
}

FoundRun find_run(const std::string& run, const fs::path& log_dir) {
  for (const fs::path& path : {fs::path(run), log_dir / run})
    if (auto found = at(path)) return *found;
  std::error_code error;
  for (const fs::path& path : {fs::path(run), log_dir / run})
    if (fs::is_directory(path, error))
      throw InputError(path.string() + ": has no metrics.csv; give the folder of a run, LOG_DIR/NAME/version_N" +
                       names_there(log_dir));
  throw InputError(run + ": no such file, and no run in " + log_dir.string() + names_there(log_dir));
}

}  // namespace igpt::runs
