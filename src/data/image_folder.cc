#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <numeric>
#include <span>
#include <system_error>
#include <thread>
#include <utility>

#include "igpt/data/image_source.h"
#include "igpt/data/sha256.h"
#include "igpt/data/shuffle.h"
#include "igpt/error.h"
#include "igpt/formats/byte_reader.h"
#include "igpt/formats/ending.h"
#include "igpt/formats/entries.h"
#include "igpt/formats/image_file.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/resize.h"
#include "igpt/limits.h"
#include "src/data/parallel.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kLargestFile = uint64_t{256} << 20;
constexpr int64_t kManyPixels = int64_t{1} << 24;  // pictures above are decoded one after the other, to save memory
constexpr int64_t kTestShare = 10;
constexpr int64_t kSplitStream = 0;
constexpr size_t kChannels = 3;
constexpr size_t kClassNames = size_t{32} << 10;  // bytes

struct Picture {
  fs::path path;
  int64_t label = 0;
  bool test = false;
  uint64_t size = 0;         // bytes
  std::string sha256 = {};   // of the file
  std::string failure = {};  // why it cannot be read
};

bool is_picture(const fs::path& path) {
  const std::string ending = formats::ending_of(path);
  return ending == ".png" || ending == ".jpg" || ending == ".jpeg";
}

// Names in the order of their bytes, without hidden ones: no file system's own order.
std::vector<std::string> names_in(const fs::path& folder, bool folders) {
  std::vector<std::string> names;
  for (const auto& entry : formats::entries_of(folder)) {
    const std::string name = entry.filename().string();
    std::error_code error;  // of a link that leads nowhere or in a circle
    if (!name.starts_with('.') && fs::is_directory(entry, error) == folders) names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

// Whether the folder has a training and a test set of its own. `train` and `test` may be classes, too.
bool is_split(const fs::path& root) {
  const auto holds_classes = [&](const char* name) {
    return fs::is_directory(root / name) && !names_in(root / name, /*folders=*/true).empty();
  };
  const bool train = holds_classes("train"), test = holds_classes("test");
  if (train != test)
    throw InputError(root.string() + ": has classes in " + (train ? "train" : "test") + " but not in " +
                     (train ? "test" : "train") + "; --source takes a folder with both, or one of classes alone");
  return train;
}

class ImageFolder : public ImageSource {
 public:
  ImageFolder(const DatasetSource& dataset, const PrepareOptions& options) : options_(options), root_(options.source) {
    if (options.source.empty())
      throw UsageError("--dataset " + dataset.name + ": needs --source, the folder of the pictures");
    if (!fs::is_directory(root_))
      throw InputError(options.source + ": no such folder; --source takes the folder of the pictures");
    const bool split = is_split(root_);
    find(split ? root_ / "train" : root_, /*test=*/false);
    if (split)
      find(root_ / "test", /*test=*/true);
    else
      split_by_seed();
    check_class_names();
    if (left_out_ > 0) note(std::to_string(left_out_) + " files that end neither in .png nor in .jpg are left out");
  }

  std::string name() const override { return "folder " + formats::printable(fs::canonical(root_).filename().string()); }

  std::vector<std::string> classes() const override { return classes_; }

  std::vector<DatasetInfo::File> sums() override {
    if (!hashed_)
      for_each_picture([](Picture& picture, size_t) {
        try {
          picture.sha256 = sha256_of_file(picture.path);
        } catch (const Error&) {
          picture.sha256.clear();  // as where it is decoded
        }
      });
    hashed_ = true;
    Sha256 hash;
    hash.update(std::to_string(options_.num_pixels) + " pixels\n");
    for (const Picture& picture : pictures_)
      hash.update(std::string(picture.test ? "test " : "train ") + picture.sha256 + " " +
                  classes_[static_cast<size_t>(picture.label)] + "/" + picture.path.filename().string() + "\n");
    return {{"images", hash.hex()}};
  }

  RawImages read() override {
    note("reading " + std::to_string(pictures_.size()) + " pictures of " + std::to_string(classes_.size()) +
         " classes from " + root_.string());
    std::vector<uint8_t> pixels = make_pixels();
    std::atomic<bool> all_grey = true;
    for_each_picture([&](Picture& picture, size_t i) {
      if (!decode(picture, std::span(pixels).subspan(i * image_bytes(), image_bytes()))) all_grey = false;
    });
    hashed_ = true;
    judge_failures();
    return collect(pixels, all_grey ? 1 : kChannels);
  }

 private:
  size_t image_bytes() const { return static_cast<size_t>(options_.num_pixels * options_.num_pixels) * kChannels; }

  void note(const std::string& line) const {
    if (options_.note) options_.note(line);
  }

  // The pictures in FOLDER/CLASS/.
  void find(const fs::path& folder, bool test) {
    auto names = names_in(folder, /*folders=*/true);
    std::erase_if(names, [&](const std::string& name) {  // what an earlier start made of the pictures
      std::error_code ignored;
      return fs::equivalent(folder / name, options_.data_dir, ignored);
    });
    if (!test) classes_ = names;
    if (names.empty())
      throw InputError(folder.string() + ": holds no folders; pictures lie in a folder for each class, CLASS/x.png");
    for (const std::string& name : names) {
      const auto label = std::ranges::find(classes_, name) - classes_.begin();
      if (label == std::ssize(classes_))
        throw InputError((folder / name).string() + ": is a class that the training set does not have; add it to " +
                         (root_ / "train").string() + " or take it away");
      const size_t before = pictures_.size();
      for (const std::string& file : names_in(folder / name, /*folders=*/false)) {
        const fs::path path = folder / name / file;
        std::error_code gone;
        if (is_picture(file))
          pictures_.push_back({path, label, test, fs::is_regular_file(path, gone) ? fs::file_size(path, gone) : 0});
        else
          ++left_out_;
      }
      if (pictures_.size() == before)
        throw InputError((folder / name).string() + ": holds no .png or .jpg files; each folder in " + folder.string() +
                         " is a class with its pictures");
    }
  }

  // They have to fit into dataset.yaml.
  void check_class_names() const {
    size_t bytes = 0;
    for (const std::string& name : classes_) bytes += name.size() + 4;
    if (bytes > kClassNames)
      throw InputError(root_.string() + ": the names of its " + std::to_string(classes_.size()) + " classes take " +
                       std::to_string(bytes) + " bytes, at most " + std::to_string(kClassNames) +
                       " are supported; take fewer classes or shorter names");
  }

  void split_by_seed() {
    const auto count = std::ssize(pictures_);
    if (count < 2)
      throw InputError(root_.string() + ": holds a single picture; at least two are needed, one of them for the test");
    const auto order = shuffled_indices(count, options_.seed, kSplitStream);
    for (int64_t i = 0; i < std::max<int64_t>(1, count / kTestShare); ++i)
      pictures_[static_cast<size_t>(order[static_cast<size_t>(i)])].test = true;
  }

  std::vector<uint8_t> make_pixels() const try {
    return std::vector<uint8_t>(pictures_.size() * image_bytes());
  } catch (const std::exception&) {  // bad_alloc or length_error
    throw InputError(root_.string() + ": its " + std::to_string(pictures_.size()) + " pictures of " +
                     std::to_string(options_.num_pixels) + " pixels a side do not fit into memory" + more_memory());
  }

  // Calls work(picture, index) for all of them on all processors, and reports progress meanwhile, whose exceptions end
  // the work as those of `work` do.
  void for_each_picture(const std::function<void(Picture&, size_t)>& work) {
    const uint64_t total = std::accumulate(pictures_.begin(), pictures_.end(), uint64_t{0},
                                           [](uint64_t sum, const Picture& picture) { return sum + picture.size; });
    std::atomic<size_t> next = 0, working = 0;
    std::atomic<uint64_t> done = 0;
    std::exception_ptr failure;
    std::mutex mutex;  // of `failure`
    const auto worker = [&] {
      try {
        for (size_t i = next++; i < pictures_.size(); i = next++) {
          work(pictures_[i], i);
          done += pictures_[i].size;
        }
      } catch (...) {
        const std::scoped_lock lock(mutex);
        failure = std::current_exception();
        next = pictures_.size();
      }
      --working;
    };
    std::vector<std::jthread> threads;
    const auto stop = [&] { next = pictures_.size(); };
    try {
      start(threads, worker, working);
      while (true) {
        const bool finished = working == 0;
        if (options_.progress) options_.progress("pictures", done, total);
        if (finished) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    } catch (...) {
      stop();
      throw;
    }
    threads.clear();
    if (failure) std::rethrow_exception(failure);
  }

  void start(std::vector<std::jthread>& threads, const std::function<void()>& worker, std::atomic<size_t>& working) {
    const size_t wanted = std::min(static_cast<size_t>(processors()), pictures_.size());
    for (size_t i = 0; i < wanted; ++i) {
      ++working;
      try {
        threads.emplace_back(worker);
      } catch (const std::system_error&) {
        --working;
        if (threads.empty()) throw Error("no thread can be started to read pictures: " + why_no_thread());
        return;
      }
    }
  }

  // Puts the picture's square into `into` and says whether it is grey. A picture that cannot be read gets a `failure`.
  bool decode(Picture& picture, std::span<uint8_t> into) {
    try {
      const std::string name = picture.path.string();
      const std::string bytes = formats::read_file(picture.path, kLargestFile);
      picture.sha256 = sha256(bytes);
      const auto header = formats::read_image_header(bytes, name);
      std::unique_lock one_by_one(many_pixels_, std::defer_lock);
      if (header.width * header.height > kManyPixels) one_by_one.lock();
      const auto square = formats::square_of(formats::decode_image(bytes, name), options_.num_pixels);
      if (std::cmp_equal(square.channels, kChannels)) std::ranges::copy(square.pixels, into.begin());
      if (square.channels == 1)
        for (size_t i = 0; i < into.size(); ++i) into[i] = square.pixels[i / kChannels];
    } catch (const Error& error) {
      picture.failure = error.what();
      return true;
    }
    for (size_t i = 0; i < into.size(); i += kChannels)
      if (into[i] != into[i + 1] || into[i] != into[i + 2]) return false;
    return true;
  }

  void judge_failures() const {
    std::vector<std::string> failures;
    for (const Picture& picture : pictures_)
      if (!picture.failure.empty()) failures.push_back(picture.failure);
    if (failures.size() * 100 <= pictures_.size()) {
      for (const std::string& failure : failures) note("left out: " + failure);
      return;
    }
    for (const std::string& failure : failures) note(failure);
    throw InputError(root_.string() + ": " + std::to_string(failures.size()) + " of " +
                     std::to_string(pictures_.size()) +
                     " pictures cannot be read, more than 1 %; the first: " + failures[0]);
  }

  // Moves the pictures that could be read together, with `channels` of their three channels.
  RawImages collect(std::vector<uint8_t>& pixels, size_t channels) const {
    RawImages images{.side = options_.num_pixels, .channels = static_cast<int64_t>(channels), .train = {}, .test = {}};
    const size_t bytes = image_bytes() / kChannels * channels;
    size_t kept = 0;
    for (size_t i = 0; i < pictures_.size(); ++i) {
      if (!pictures_[i].failure.empty()) continue;
      const uint8_t* from = pixels.data() + i * image_bytes();
      if (pictures_[i].test) {
        for (size_t k = 0; k < bytes; ++k) images.test.pixels.push_back(from[k * kChannels / channels]);
        images.test.labels.push_back(pictures_[i].label);
      } else {
        uint8_t* to = pixels.data() + kept++ * bytes;  // never behind `from`
        for (size_t k = 0; k < bytes; ++k) to[k] = from[k * kChannels / channels];
        images.train.labels.push_back(pictures_[i].label);
      }
    }
    pixels.resize(kept * bytes);
    images.train.pixels = std::move(pixels);
    if (images.train.labels.empty() || images.test.labels.empty())
      throw InputError(root_.string() + ": no picture of the " + (images.train.labels.empty() ? "training" : "test") +
                       " set can be read; give other files");
    return images;
  }

  const PrepareOptions& options_;
  fs::path root_;
  std::vector<std::string> classes_;
  std::vector<Picture> pictures_;
  size_t left_out_ = 0;
  bool hashed_ = false;  // all of them have their sha256
  std::mutex many_pixels_;
};

}  // namespace

std::unique_ptr<ImageSource> open_image_folder(const DatasetSource& dataset, const PrepareOptions& options) {
  return std::make_unique<ImageFolder>(dataset, options);
}

}  // namespace igpt::data
