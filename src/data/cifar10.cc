#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

#include "igpt/data/download.h"
#include "igpt/data/image_source.h"
#include "igpt/data/sha256.h"
#include "igpt/error.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/tar.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;

constexpr std::array kFiles = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                               "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};
constexpr size_t kTestFile = 5;
constexpr size_t kSide = 32, kPlane = kSide * kSide, kRecord = 1 + 3 * kPlane;
constexpr const char* kInnerFolder = "cifar-10-batches-bin";

class Cifar10 : public ImageSource {
 public:
  Cifar10(const DatasetSource& dataset, const PrepareOptions& options) : dataset_(dataset), options_(options) {
    const std::string& source = options.source;
    if (source.empty() || is_url(source)) return;
    const fs::path path = source;
    if (!fs::exists(path))
      throw InputError(source + ": no such file or folder; --source takes " + dataset.archive.name +
                       ", a folder with its .bin files, or a URL");
    if (!fs::is_directory(path)) {
      archive_ = path;
    } else if (fs::exists(path / dataset.archive.name)) {
      archive_ = path / dataset.archive.name;
    } else {
      folder_ = fs::exists(path / kInnerFolder) ? path / kInnerFolder : path;
      for (const char* file : kFiles)
        if (!fs::exists(folder_ / file))
          throw InputError((folder_ / file).string() + ": no such file; the folder has to hold the six .bin files of " +
                           dataset.title + ", or " + dataset.archive.name);
    }
  }

  std::string name() const override { return dataset_.name; }
  std::vector<std::string> classes() const override { return dataset_.classes; }

  std::vector<DatasetInfo::File> sums() override {
    if (folder_.empty()) return {{dataset_.archive.name, dataset_.archive.sha256}};
    if (sums_.empty())
      for (const char* file : kFiles) sums_.push_back({file, sha256_of_file(folder_ / file)});
    return sums_;
  }

  RawImages read() override {
    RawImages images{.side = kSide, .channels = 3, .train = {}, .test = {}};
    reserve(images.train, kTestFile);
    reserve(images.test, 1);
    if (folder_.empty())
      read_archive(archive_.empty() ? find_or_download() : checked(archive_), images);
    else
      read_folder(images);
    return images;
  }

 private:
  uint64_t file_size() const { return dataset_.images_per_file * kRecord; }

  void note(const std::string& line) const {
    if (options_.note) options_.note(line);
  }
  void look_up() const {
    if (options_.progress) options_.progress("", 0, 0);
  }

  void reserve(RawImages::Part& part, size_t files) const {
    part.pixels.reserve(files * dataset_.images_per_file * 3 * kPlane);
    part.labels.reserve(files * dataset_.images_per_file);
  }

  bool is_right(const fs::path& path) const {
    return fs::file_size(path) == dataset_.archive.size && sha256_of_file(path) == dataset_.archive.sha256;
  }

  fs::path checked(const fs::path& path) const {
    if (!is_right(path))
      throw InputError(path.string() + ": does not hold the bytes of " + dataset_.archive.name +
                       " (its SHA-256 is another one); give the original file, as its authors serve it");
    return path;
  }

  // The archive in data/raw, downloaded if it is not there.
  fs::path find_or_download() const {
    const fs::path folder = options_.data_dir / "raw" / dataset_.name;
    fs::create_directories(folder);
    const FileLock lock(
        folder / ".lock", FileLock::Kind::kExclusive, [this] { look_up(); }, options_.note);
    const fs::path complete = folder / dataset_.archive.name, part = complete.string() + ".part";
    if (fs::exists(complete)) {
      if (is_right(complete)) return complete;
      note(complete.string() + ": is damaged; downloading it again");
    }
    std::string failures;
    const auto mirrors = options_.source.empty() ? dataset_.mirrors : std::vector<std::string>{options_.source};
    for (const std::string& mirror : mirrors) {
      const std::string url = mirror + (mirror.ends_with('/') ? "" : "/") + dataset_.archive.name;
      note("downloading " + url);
      try {
        if (fetch_from(url, part)) {
          fs::rename(part, complete);
          return complete;
        }
        failures += url + ": serves wrong bytes; ";
      } catch (const DownloadError& error) {
        failures += error.what() + std::string("; ");
      }
    }
    throw Error("cannot download " + dataset_.archive.name + ": " + failures +
                "try again later, or give the archive with --source");
  }

  // Whether `part` then holds the archive. A download that continued an older one is tried again from the start, since
  // the older bytes may have come from elsewhere.
  bool fetch_from(const std::string& url, const fs::path& part) const {
    DownloadOptions download_options = options_.download;
    download_options.max_bytes = dataset_.archive.size;
    if (options_.progress)
      download_options.progress = [&](uint64_t done, uint64_t total) {
        options_.progress(dataset_.archive.name, done, total);
      };
    for (bool again = fs::exists(part);; again = false) {
      if (!again || !is_right(part)) download(url, part, download_options);
      if (is_right(part)) return true;
      fs::remove(part);
      if (!again) return false;
    }
  }

  void read_archive(const fs::path& path, RawImages& images) {
    note("reading " + dataset_.title + " from " + path.string());
    const uint64_t largest = kFiles.size() * file_size() + (uint64_t{1} << 20);
    formats::TarReader archive(path, {.entries = 100, .bytes = largest});
    std::array<std::string, kFiles.size()> contents;  // in whatever order they come
    while (const auto entry = archive.next()) {
      look_up();
      const auto file = std::ranges::find(kFiles, fs::path(entry->name).filename().string());
      if (file == kFiles.end()) continue;
      std::string& content = contents[static_cast<size_t>(file - kFiles.begin())];
      if (!content.empty()) throw InputError(path.string() + ": holds " + *file + " twice; give the original file");
      content = archive.read(file_size());
    }
    for (size_t i = 0; i < kFiles.size(); ++i) {
      add(std::exchange(contents[i], {}), path.string() + ": " + kFiles[i],
          i == kTestFile ? images.test : images.train);
      look_up();
    }
  }

  void read_folder(RawImages& images) {
    note("reading " + dataset_.title + " from " + folder_.string());
    sums_.clear();
    for (size_t i = 0; i < kFiles.size(); ++i) {
      const std::string content = formats::read_file(folder_ / kFiles[i], file_size());
      sums_.push_back({kFiles[i], sha256(content)});
      add(content, (folder_ / kFiles[i]).string(), i == kTestFile ? images.test : images.train);
      look_up();
    }
  }

  // Appends the records of a file; their planes become pixels.
  void add(std::string_view content, const std::string& file, RawImages::Part& part) const {
    if (content.size() != file_size())
      throw InputError(file + ": has " + std::to_string(content.size()) + " bytes instead of " +
                       std::to_string(file_size()) + "; give the original files");
    for (; !content.empty(); content.remove_prefix(kRecord)) {
      const auto* record = reinterpret_cast<const uint8_t*>(content.data());
      if (record[0] >= dataset_.classes.size())
        throw InputError(file + ": holds the label " + std::to_string(record[0]) + ", there are " +
                         std::to_string(dataset_.classes.size()) + " classes; give the original files");
      part.labels.push_back(record[0]);
      for (size_t i = 1; i <= kPlane; ++i)
        part.pixels.insert(part.pixels.end(), {record[i], record[i + kPlane], record[i + 2 * kPlane]});
    }
  }

  const DatasetSource& dataset_;
  const PrepareOptions& options_;
  fs::path archive_, folder_;  // which of them `source` names
  std::vector<DatasetInfo::File> sums_;
};

}  // namespace

std::unique_ptr<ImageSource> open_cifar10(const DatasetSource& dataset, const PrepareOptions& options) {
  return std::make_unique<Cifar10>(dataset, options);
}

}  // namespace igpt::data
