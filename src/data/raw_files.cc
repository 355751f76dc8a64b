#include "src/data/raw_files.h"

#include <algorithm>
#include <exception>
#include <future>
#include <optional>

#include "igpt/data/dataset_folder.h"
#include "igpt/data/download.h"
#include "igpt/data/sha256.h"
#include "igpt/error.h"
#include "igpt/formats/gzip.h"
#include "igpt/shell_quoted.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;

// The decompressed bytes of one IDX file. Throws InputError unless they are exactly the expected ones.
std::string read_raw(const fs::path& path, const RawFile& file) {
  std::string bytes = formats::read_plain_or_gzip(path, file.size);
  if (bytes.size() != file.size || sha256(bytes) != file.sha256)
    throw InputError(path.string() + ": does not hold the bytes of " + file.name +
                     " (its SHA-256 is another one); give the original file, as its authors serve it");
  return bytes;
}

// The places in a folder where a file exists: plain or .gz, under its own name or as in Kaggle's archives, with a dot
// instead of the hyphen before `idx` or in a folder of that name.
std::vector<fs::path> places_of(const fs::path& folder, const std::string& name) {
  std::vector<std::string> names = {name};
  if (const size_t hyphen = name.rfind("-idx"); hyphen != std::string::npos)
    names.push_back(std::string(name).replace(hyphen, 1, "."));
  std::vector<fs::path> folders = {folder}, places;
  for (const std::string& inner : names) folders.push_back(folder / inner);
  for (const fs::path& place : folders)
    for (const std::string& file : names)
      for (const char* ending : {"", ".gz"})
        if (const fs::path path = place / (file + ending); fs::exists(path) && !fs::is_directory(path))
          places.push_back(path);
  return places;
}

// The right bytes from one of the places. Throws InputError, for the first place, where none has them.
std::string read_any(const std::vector<fs::path>& places, const RawFile& file) {
  std::exception_ptr failure;
  for (const fs::path& path : places) {
    try {
      return read_raw(path, file);
    } catch (const InputError&) {
      if (!failure) failure = std::current_exception();
    }
  }
  std::rethrow_exception(failure);
}

// The file of a data set that some bytes are.
struct Identity {
  const DatasetSource* dataset;
  const RawFile* file;
};

// Finds or downloads the four IDX files of a data set.
class RawFiles {
 public:
  RawFiles(const DatasetSource& dataset, const PrepareOptions& options)
      : dataset_(dataset), options_(options), folder_(options.data_dir / "raw" / dataset.name) {}

  std::array<std::string, 4> read() {
    if (!options_.source.empty() && !is_url(options_.source)) return read_source_folder(options_.source);
    // Files that are here already are read in parallel; the others are downloaded one after the other.
    std::array<std::future<std::optional<Local>>, 4> local;
    for (size_t i = 0; i < local.size(); ++i)
      local[i] = std::async(std::launch::async, [this, i] { return read_local(dataset_.files[i]); });
    std::array<std::string, 4> bytes;
    for (size_t i = 0; i < bytes.size(); ++i) {
      auto found = local[i].get();
      if (found && i == 0) note("reading " + dataset_.title + " from " + found->folder.string());
      bytes[i] = found ? std::move(found->bytes) : fetch(dataset_.files[i]);
    }
    return bytes;
  }

 private:
  void note(const std::string& line) const {
    if (options_.note) options_.note(line);
  }

  std::array<std::string, 4> read_source_folder(const fs::path& folder) const {
    if (fs::is_regular_file(folder))
      throw InputError(folder.string() + ": is a file; --source takes the folder that holds it");
    if (!fs::is_directory(folder))
      throw InputError(folder.string() + ": no such folder; --source takes a folder with the IDX files, or a URL");
    std::array<std::vector<fs::path>, 4> places;
    for (size_t i = 0; i < places.size(); ++i) {
      places[i] = places_of(folder, dataset_.files[i].name);
      if (places[i].empty())
        throw InputError((folder / dataset_.files[i].name).string() +
                         ".gz: no such file; the folder has to hold the four IDX files of " + dataset_.title +
                         ", plain or .gz");
    }
    note("reading " + dataset_.title + " from " + folder.string());
    std::array<std::future<std::string>, 4> reading;
    for (size_t i = 0; i < reading.size(); ++i)
      reading[i] = std::async(std::launch::async, [&, i] { return read_any(places[i], dataset_.files[i]); });
    std::array<std::string, 4> bytes;
    std::exception_ptr failure;
    size_t failed = 0, failures = 0;
    for (size_t i = 0; i < bytes.size(); ++i) {
      try {
        bytes[i] = reading[i].get();
      } catch (const InputError&) {
        if (failures++ == 0) failure = std::current_exception(), failed = i;
      }
    }
    if (!failure) return bytes;
    bytes = {};  // frees memory for the file that is examined
    if (const auto identity = identify(places[failed][0])) {
      const bool mixed = failures < bytes.size() && identity->dataset->name != dataset_.name;
      throw InputError(
          places[failed][0].string() + ": is " + in_words(*identity, dataset_.files[failed]) + "; " +
          (mixed ? "give a folder that holds the four files of one data set" : cure(*identity, folder.string())));
    }
    std::rethrow_exception(failure);
  }

  // The known file that has these bytes.
  std::optional<Identity> identify(const fs::path& path) const {
    std::vector<Identity> candidates;
    uint64_t largest = 0;
    const auto add = [&](const DatasetSource& dataset) {
      for (const RawFile& file : dataset.files) {
        candidates.push_back({&dataset, &file});
        largest = std::max(largest, file.size);
      }
    };
    add(dataset_);
    for (const DatasetSource& dataset : options_.known) add(dataset);
    try {
      const std::string sum = sha256(formats::read_plain_or_gzip(path, largest));
      const auto found =
          std::ranges::find_if(candidates, [&](const Identity& candidate) { return candidate.file->sha256 == sum; });
      return found == candidates.end() ? std::nullopt : std::optional(*found);
    } catch (const InputError&) {
      return std::nullopt;
    }
  }

  std::string in_words(const Identity& identity, const RawFile& wanted) const {
    return identity.file->name + " of " + identity.dataset->title + ", not " + wanted.name + " of " + dataset_.title;
  }

  std::string cure(const Identity& identity, const std::string& source) const {
    if (identity.dataset->name == dataset_.name) return "give each file the name of what it holds";
    std::string command = "prepare_data --dataset " + identity.dataset->name + " --source " + shell_quoted(source);
    if (options_.data_dir != "data") command += " --data_dir " + shell_quoted(options_.data_dir.string());
    return "for " + identity.dataset->title + " type: " + command;
  }

  struct Local {
    std::string bytes;
    fs::path folder;
  };

  // A file of data/raw or of a distribution's folder; nothing when there is no good one. Files with wrong bytes are
  // added to `damaged`.
  std::optional<Local> read_local(const RawFile& file, std::vector<fs::path>* damaged = nullptr) const {
    std::vector<fs::path> folders = {folder_};
    if (options_.source.empty()) folders.insert(folders.end(), dataset_.folders.begin(), dataset_.folders.end());
    for (const fs::path& folder : folders) {
      for (const fs::path& path : places_of(folder, file.name)) {
        try {
          return Local{read_raw(path, file), folder};
        } catch (const InputError&) {
          // The next place may have the right bytes.
          if (damaged) damaged->push_back(path);
        }
      }
    }
    return std::nullopt;
  }

  std::string fetch(const RawFile& file) {
    fs::create_directories(folder_);
    const FileLock lock(folder_ / ".lock", FileLock::Kind::kExclusive, options_.waiting(), options_.note);
    const fs::path complete = folder_ / (file.name + ".gz"), part = folder_ / (file.name + ".gz.part");
    // Another program may have downloaded it meanwhile, or died after the last byte.
    std::vector<fs::path> damaged;
    if (auto local = read_local(file, &damaged)) return std::move(local->bytes);
    for (const fs::path& path : damaged) {
      const auto identity = identify(path);
      note(path.string() + ": is " + (identity ? in_words(*identity, file) : "damaged") + "; downloading it again");
    }
    if (auto bytes = read_if_right(part, file)) return keep(part, complete, *std::move(bytes));

    std::string failures;
    const auto mirrors = options_.source.empty() ? dataset_.mirrors : std::vector<std::string>{options_.source};
    for (const std::string& mirror : mirrors) {
      const std::string url = mirror + (mirror.ends_with('/') ? "" : "/") + file.name + ".gz";
      note("downloading " + url);
      try {
        std::optional<Identity> served;
        if (auto bytes = fetch_from(url, part, file, served)) return keep(part, complete, *std::move(bytes));
        failures += url + ": serves " + (served ? in_words(*served, file) : "wrong bytes") + "; ";
        if (served && !options_.source.empty()) failures += cure(*served, options_.source) + "; ";
      } catch (const DownloadError& error) {
        failures += error.what() + std::string("; ");
      }
    }
    throw Error("cannot download " + file.name + ".gz: " + failures +
                "try again later, or give a folder that holds the files with --source");
  }

  // Nothing when the server's bytes are wrong; `served` then says what they are, if that is known. A download that
  // continued an older one is tried again from the start, since the older bytes may have come from elsewhere.
  std::optional<std::string> fetch_from(const std::string& url, const fs::path& part, const RawFile& file,
                                        std::optional<Identity>& served) {
    DownloadOptions download_options = options_.download;
    download_options.max_bytes = file.size + file.size / 100 + 4096;  // incompressible data grows a little
    if (options_.progress)
      download_options.progress = [&](uint64_t done, uint64_t total) { options_.progress(file.name, done, total); };
    for (bool again = fs::exists(part);; again = false) {
      download(url, part, download_options);
      if (auto bytes = read_if_right(part, file)) return bytes;
      served = identify(part);
      fs::remove(part);
      if (!again) return std::nullopt;
    }
  }

  static std::optional<std::string> read_if_right(const fs::path& path, const RawFile& file) {
    if (!fs::exists(path)) return std::nullopt;
    try {
      return read_raw(path, file);
    } catch (const InputError&) {
      return std::nullopt;
    }
  }

  static std::string keep(const fs::path& part, const fs::path& complete, std::string bytes) {
    fs::rename(part, complete);
    return bytes;
  }

  const DatasetSource& dataset_;
  const PrepareOptions& options_;
  fs::path folder_;
};

}  // namespace

std::array<std::string, 4> read_raw_files(const DatasetSource& dataset, const PrepareOptions& options) {
  return RawFiles(dataset, options).read();
}

}  // namespace igpt::data
