#include "igpt/data/dataset_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <thread>
#include <type_traits>

#include "igpt/data/sha256.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/file_descriptor.h"
#include "igpt/formats/input_file.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLock = ".lock";
constexpr const char* kMark = "prepare_data has written to this folder\n";  // in the lock, from the first set on
constexpr const char* kIncoming = ".incoming";
constexpr const char* kReady = ".ready";
constexpr const char* kDescription = "dataset.yaml";
constexpr std::array kNames = {"train_x.npy", "train_y.npy", "test_x.npy", "test_y.npy", kDescription};
constexpr uint64_t kMaximumYaml = uint64_t{64} << 10;   // yaml-cpp takes some hundred times that in memory
constexpr uint64_t kMaximumBinary = uint64_t{1} << 20;  // of a file with a large palette
constexpr int64_t kMostListed = 256;                    // colours that are written as numbers
constexpr const char* kBinary = "!!binary \"";

[[noreturn]] void fail(const fs::path& path, const std::string& action, int error) {
  throw Error(path.string() + ": cannot " + action + ": " + std::strerror(error) +
              "; check that you may write to its folder");
}

// Unlike std::filesystem::exists, never throws: what cannot be accessed counts as missing.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// Whether one of the files is what dataset.yaml says of it, or dataset.yaml is damaged and says nothing.
bool is_as_described(const fs::path& folder, std::string_view name) try {
  const auto info = read_dataset_info(folder);
  const auto file = std::ranges::find(info->files, name, &DatasetInfo::File::name);
  return file != info->files.end() && file->sha256 == sha256_of_file(folder / name);
} catch (const InputError&) {
  return true;
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) fail(folder, "remove", error.value());
}

bool is_link(const fs::path& path) {
  std::error_code error;
  return fs::is_symlink(path, error);
}

formats::AtomicFile copied(const fs::path& from, const fs::path& to) {
  formats::remove_abandoned(to);
  formats::AtomicFile copy(to);
  formats::InputFile file(from);
  std::vector<std::byte> chunk(size_t{256} << 10);
  while (const size_t size = file.read(chunk)) copy.write(std::span(chunk).first(size));
  copy.flush();
  return copy;
}

// A stranger's folder may hold a set that is .ready, together with links to anywhere. A set that nobody asked to move
// must not overwrite, through such a link, a file that is not one of a data set.
void expect_dataset_file(const fs::path& link, const fs::path& ready) {
  const fs::path target = formats::place_of(link);
  if (target.extension() == ".npy" || target.filename() == link.filename()) return;
  throw Error(link.string() + ": is a link to a file of another name, and " + ready.string() +
              " holds a set that was not moved to its place; remove " + ready.string() + " and run prepare_data again");
}

// Moves a complete set to its place. For places that are links, `copies` may hold the new files, already complete. The
// caller holds the exclusive lock.
void roll_forward(const fs::path& folder, std::map<std::string, formats::AtomicFile> copies = {}) {
  const fs::path ready = folder / kReady;
  if (!is_there(ready)) return;
  for (const char* name : kNames) {
    const fs::path from = ready / name, to = folder / name;
    if (const auto copy = copies.find(name); copy != copies.end()) {
      copy->second.publish();
    } else if (!is_there(from)) {
      continue;  // has been moved already
    } else if (is_link(to)) {
      expect_dataset_file(to, ready);
      copied(from, to).publish();
    } else if (::rename(from.c_str(), to.c_str()) != 0) {
      fail(to, "replace", errno);
    }
  }
  formats::flush_folder(folder);
  remove_folder(ready);
  formats::flush_folder(folder);
}

template <class T>
void emit_values(YAML::Emitter& yaml, const char* key, const std::vector<T>& values, bool as_binary) {
  yaml << YAML::Key << key << YAML::Value;
  if (as_binary)  // base64, little-endian
    yaml << YAML::Binary(reinterpret_cast<const unsigned char*>(values.data()), values.size() * sizeof(T));
  else if constexpr (std::is_same_v<T, uint8_t>)
    yaml << YAML::Flow << std::vector<int>(values.begin(), values.end());
  else
    yaml << YAML::Flow << values;
}

// Takes the values of !!binary out of the text and leaves the numbers of their places, so that yaml-cpp has only little
// to read.
std::vector<std::string> take_binaries(std::string& text) {
  std::vector<std::string> binaries;
  std::string rest;
  size_t place = 0;
  for (size_t tag; (tag = text.find(kBinary, place)) != text.npos;) {
    const size_t begin = tag + std::strlen(kBinary), end = text.find('"', begin);
    if (end == text.npos) break;
    rest += text.substr(place, begin - place) + std::to_string(binaries.size());
    binaries.push_back(text.substr(begin, end - begin));
    place = end;
  }
  text = rest + text.substr(place);
  return binaries;
}

// Numbers from a list or from !!binary.
template <class T>
std::vector<T> read_values(const YAML::Node& node, const std::vector<std::string>& binaries) {
  if (!node.IsScalar()) {
    if constexpr (std::is_same_v<T, float>) return node.as<std::vector<float>>();
    std::vector<T> values;
    for (const int value : node.as<std::vector<int>>()) {
      if (value < 0 || value > UINT8_MAX) throw YAML::Exception(node.Mark(), "a colour is not a byte");
      values.push_back(static_cast<T>(value));
    }
    return values;
  }
  const auto place = node.as<size_t>();
  if (place >= binaries.size()) throw YAML::Exception(node.Mark(), "neither a list nor !!binary");
  const auto bytes = YAML::DecodeBase64(binaries[place]);
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

bool is_whole(const Palette& palette) try {
  if (palette.channels != 1 && palette.channels != 3) return false;
  if (palette.size() < 1 || palette.size() > kLargestVocab ||
      palette.colours.size() % static_cast<size_t>(palette.channels) != 0)
    return false;
  return palette.centroids.empty() ||
         Palette::of_centroids(palette.centroids, palette.channels).colours == palette.colours;
} catch (const InputError&) {
  return false;
}

fs::path made(fs::path folder) {
  std::error_code error;
  if (is_link(folder) && !is_there(folder))
    throw Error(folder.string() + ": is a link to " + fs::read_symlink(folder, error).string() +
                ", where there is nothing; create that folder or remove the link");
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder, error)) fail(folder, "create the folder", error ? error.value() : ENOTDIR);
  return folder;
}

}  // namespace

FileLock::FileLock(const fs::path& file, Kind kind, const WaitCallback& waiting, const NoteCallback& note)
    : file_(::open(file.c_str(),
                   (kind == Kind::kExclusive ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
                   0666)) {
  if (!file_ && errno == ELOOP)
    throw Error(file.string() + ": is a symbolic link, and locks are files of their own; remove the link");
  if (!file_ && kind == Kind::kShared)
    throw Error(file.string() + ": cannot open: " + std::strerror(errno) + "; check that you may read it");
  if (!file_) fail(file, "create", errno);
  // Polled, because a blocking flock would not see the flag that a signal handler sets.
  while (!formats::take_lock(file_.get(), kind, file, note)) {
    if (waiting) waiting();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

ReadLock::ReadLock(const std::vector<fs::path>& files, const WaitCallback& waiting, const NoteCallback& note) {
  std::set<fs::path> folders;
  for (const fs::path& file : files) {
    std::error_code error;
    const fs::path path = fs::absolute(file);
    for (const bool follows_link : {false, true}) {
      const fs::path folder = follows_link ? fs::weakly_canonical(path, error).parent_path()
                                           : fs::weakly_canonical(path.parent_path(), error);
      if (!error) folders.insert(folder);
    }
  }
  for (const fs::path& folder : folders) {
    while (true) {
      if (is_there(folder / kReady)) {
        const FileLock lock(folder / kLock, FileLock::Kind::kExclusive, waiting, note);
        roll_forward(folder);
      }
      if (!is_there(folder / kLock)) break;
      FileLock lock(folder / kLock, FileLock::Kind::kShared, waiting, note);
      if (is_there(folder / kReady)) continue;  // its writer died meanwhile
      locks_.push_back(std::move(lock));
      break;
    }
  }
}

void expect_replaceable(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder, error)) {
    if (!fs::is_directory(folder, error)) fail(folder, "create the folder", ENOTDIR);
    if (::access(folder.c_str(), W_OK | X_OK) != 0) fail(folder / kLock, "create", errno);
  }
  std::map<fs::path, const char*> names;  // by the files to which they lead
  for (const char* name : kNames) {
    std::error_code ignored;
    if (fs::is_directory(folder / name, ignored))
      throw Error((folder / name).string() + ": is a folder where a file has to go; move it away");
    const fs::path place = fs::weakly_canonical(formats::place_of(folder / name), ignored);
    const auto [other, is_first] = names.emplace(place, name);
    if (!is_first)
      throw Error((folder / other->second).string() + " and " + (folder / name).string() + ": are one file, " +
                  place.string() + ", through their links; remove one of the links");
  }
}

void expect_own_files(const fs::path& folder) {
  if (is_there(folder / kReady)) return;  // while a set is moved to its place, dataset.yaml comes last
  const bool is_described = is_there(folder / kDescription);
  std::error_code none;
  if (const auto size = fs::file_size(folder / kLock, none); !is_described && !none && size > 0) return;
  const char* foreign = nullptr;
  for (const char* name : kNames) {
    if (name == std::string_view(kDescription) || !is_there(folder / name)) continue;
    if (is_described && is_as_described(folder, name)) return;
    if (!foreign) foreign = name;
  }
  if (foreign)
    throw InputError((folder / foreign).string() + ": was not written by prepare_data" +
                     (is_described ? ", nor were the other files that dataset.yaml describes" : "") +
                     "; it would be replaced: choose another --data_dir, or give --force to replace the images and "
                     "labels in " +
                     folder.string());
}

DatasetWriter::DatasetWriter(fs::path folder, const WaitCallback& waiting, const NoteCallback& note)
    : folder_(made(std::move(folder))), lock_(folder_ / kLock, FileLock::Kind::kExclusive, waiting, note) {
  roll_forward(folder_);
  remove_folder(incoming());
  if (::mkdir(incoming().c_str(), 0777) != 0) fail(incoming(), "create the folder", errno);
}

DatasetWriter::~DatasetWriter() {
  std::error_code ignored;
  fs::remove_all(incoming(), ignored);
}

fs::path DatasetWriter::incoming() const {
  return folder_ / kIncoming;
}

void DatasetWriter::publish() {
  expect_replaceable(folder_);
  std::map<std::string, formats::AtomicFile> copies;
  for (const char* name : kNames) {
    std::error_code ignored;
    if (!fs::is_regular_file(incoming() / name, ignored))
      throw Error((incoming() / name).string() + ": was not written");
    if (is_link(folder_ / name)) copies.emplace(name, copied(incoming() / name, folder_ / name));
  }
  formats::flush_folder(incoming());
  std::ofstream(folder_ / kLock) << kMark;
  if (::rename(incoming().c_str(), (folder_ / kReady).c_str()) != 0) fail(folder_ / kReady, "create", errno);
  formats::flush_folder(folder_);
  roll_forward(folder_, std::move(copies));
}

std::string to_yaml(const DatasetInfo& info) {
  const auto files = [](YAML::Emitter& yaml, const std::vector<DatasetInfo::File>& list) {
    yaml << YAML::BeginMap;
    for (const DatasetInfo::File& file : list) yaml << YAML::Key << file.name << YAML::Value << file.sha256;
    yaml << YAML::EndMap;
  };
  const bool as_binary = info.palette.size() > kMostListed;
  YAML::Emitter yaml;
  yaml << YAML::BeginMap;
  yaml << YAML::Key << "dataset" << YAML::Value << info.dataset;
  yaml << YAML::Key << "image_size" << YAML::Value << info.image_size;
  yaml << YAML::Key << "dtype" << YAML::Value << info.dtype;
  yaml << YAML::Key << "classes" << YAML::Value << YAML::Flow << info.classes;
  yaml << YAML::Key << "palette" << YAML::Value << YAML::BeginMap;
  yaml << YAML::Key << "channels" << YAML::Value << info.palette.channels;
  emit_values(yaml, "colours", info.palette.colours, as_binary);
  if (!info.palette.centroids.empty()) emit_values(yaml, "centroids", info.palette.centroids, as_binary);
  if (info.kmeans_seed) yaml << YAML::Key << "kmeans_seed" << YAML::Value << *info.kmeans_seed;
  yaml << YAML::EndMap;
  yaml << YAML::Key << "raw_sha256" << YAML::Value;
  files(yaml, info.raw);
  yaml << YAML::Key << "sha256" << YAML::Value;
  files(yaml, info.files);
  yaml << YAML::Key << "made_by" << YAML::Value << info.made_by;
  yaml << YAML::EndMap;
  return std::string(yaml.c_str()) + "\n";
}

DatasetInfo parse_dataset_info(const std::string& whole, const std::string& name) {
  const auto files = [&](const YAML::Node& map) {
    if (!map.IsMap()) throw InputError(name + ": lacks its SHA-256 sums; run prepare_data again");
    std::vector<DatasetInfo::File> list;
    for (const auto& entry : map) list.push_back({entry.first.as<std::string>(), entry.second.as<std::string>()});
    return list;
  };
  if (whole.size() > kMaximumBinary) throw InputError(name + ": is longer than 1 MB; run prepare_data again");
  std::string text = whole;
  const auto binaries = take_binaries(text);
  if (text.size() > kMaximumYaml) throw InputError(name + ": is longer than 64 KB; run prepare_data again");
  try {
    const YAML::Node yaml = YAML::Load(text);
    DatasetInfo info;
    info.dataset = yaml["dataset"].as<std::string>();
    info.image_size = yaml["image_size"].as<int64_t>();
    info.dtype = yaml["dtype"].as<std::string>();
    info.classes = yaml["classes"].as<std::vector<std::string>>();
    info.palette.channels = yaml["palette"]["channels"].as<int64_t>();
    info.palette.colours = read_values<uint8_t>(yaml["palette"]["colours"], binaries);
    if (const YAML::Node centroids = yaml["palette"]["centroids"])
      info.palette.centroids = read_values<float>(centroids, binaries);
    if (const YAML::Node seed = yaml["palette"]["kmeans_seed"]) info.kmeans_seed = seed.as<int64_t>();
    info.raw = files(yaml["raw_sha256"]);
    info.files = files(yaml["sha256"]);
    info.made_by = yaml["made_by"].as<std::string>();
    if (!is_whole(info.palette)) throw InputError(name + ": its palette is damaged; run prepare_data again");
    return info;
  } catch (const YAML::Exception& error) {
    const std::string line = error.mark.is_null() ? "" : "line " + std::to_string(error.mark.line + 1) + ": ";
    throw InputError(name + ": " + line + formats::printable(error.msg) + "; run prepare_data again");
  }
}

std::optional<DatasetInfo> read_dataset_info(const fs::path& folder) {
  const fs::path path = folder / kDescription;
  if (!is_there(path)) return std::nullopt;
  return parse_dataset_info(formats::read_file(path, kMaximumBinary), path.string());
}

}  // namespace igpt::data
