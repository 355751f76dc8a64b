#include "igpt/data/prepare.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <future>
#include <optional>

#include "igpt/data/dataset_folder.h"
#include "igpt/data/download.h"
#include "igpt/data/image_source.h"
#include "igpt/data/kmeans.h"
#include "igpt/data/picture.h"
#include "igpt/data/sha256.h"
#include "igpt/error.h"
#include "igpt/formats/atomic_file.h"
#include "igpt/formats/idx.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/npy.h"
#include "src/data/parallel.h"
#include "src/data/raw_files.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 4> kOutputs = {"train_x.npy", "train_y.npy", "test_x.npy", "test_y.npy"};

// Images or labels, inside the bytes of their source.
struct Part {
  std::vector<int64_t> shape;  // without the channels of images
  std::span<uint8_t> values;
  std::span<const int64_t> labels = {};    // instead of values
  int value_size = 1;                      // bytes of a token
  std::vector<uint16_t> wide_tokens = {};  // what `values` are, where the pixels' memory is too small for tokens
};

Part parse(std::string& bytes, const std::string& name) {
  const formats::IdxArray array = formats::parse_idx(bytes, name);
  const size_t offset = bytes.size() - array.values.size();
  return {array.shape, {reinterpret_cast<uint8_t*>(bytes.data()) + offset, array.values.size()}};
}

void check(const Part& images, const Part& labels, size_t classes, const std::string& name) {
  if (images.shape.size() != 3 || images.shape[1] != images.shape[2] || labels.shape.size() != 1 ||
      labels.shape[0] != images.shape[0])
    throw InputError(name + ": images and labels do not belong together");
  if (std::ranges::any_of(labels.values, [&](uint8_t label) { return label >= classes; }))
    throw InputError(name + ": has a label outside its " + std::to_string(classes) + " classes");
}

constexpr int64_t default_vocab(int64_t channels) {
  return channels == 1 ? 16 : 512;
}

// The palette that the options name, or that k-means finds among the pixels of the training images.
Palette choose_palette(std::span<const uint8_t> pixels, int64_t channels, const std::string& title,
                       const PrepareOptions& options) {
  if (!options.kmeans) {
    if (options.palette.channels > channels)
      throw InputError(options.palette_file + ": its palette is RGB, and the images of " + title +
                       " are grey; take one of greys");
    return options.palette;
  }
  const int64_t vocab = options.num_vocab > 0 ? options.num_vocab : default_vocab(channels);
  if (options.note)
    options.note("k-means: looking for " + std::to_string(vocab) + (channels == 1 ? " greys" : " colours") + ", seed " +
                 std::to_string(options.seed));
  return cluster(pixels, channels, {.num_vocab = vocab, .seed = options.seed, .waiting = options.waiting()});
}

// Makes tokens of the pixels of parts 0 and 2, in the same memory, and describes them.
void quantize(std::array<Part, 4>& parts, int64_t channels, const std::string& title, const PrepareOptions& options,
              DatasetInfo& info) {
  if (channels == 3 && !options.kmeans && options.palette.channels == 1) {
    if (options.note)
      options.note("the palette is grey, and so become the images; --palette kmeans keeps their colours");
    for (const size_t i : {0, 2}) parts[i].values = to_grey(parts[i].values);
    channels = 1;
  }
  info.palette = choose_palette(parts[0].values, channels, title, options);
  if (options.kmeans) info.kmeans_seed = options.seed;
  const PixelEncoder encoder(info.palette, {parts[0].values, parts[2].values}, processors());
  for (const size_t i : {0, 2}) {
    const auto count = parts[i].values.size() / static_cast<size_t>(channels);
    if (info.palette.size() <= UINT8_MAX + 1) {
      const auto tokens = parts[i].values.first(count);
      encoder.encode(parts[i].values, tokens);
      parts[i].values = tokens;
    } else {
      // Two bytes for three of RGB, but for one of grey: centroids may lie between the bytes.
      if (channels == 1) parts[i].wide_tokens.resize(count);
      auto* tokens = channels == 1 ? parts[i].wide_tokens.data() : reinterpret_cast<uint16_t*>(parts[i].values.data());
      encoder.encode(parts[i].values, std::span(tokens, count));
      parts[i].values = {reinterpret_cast<uint8_t*>(tokens), 2 * count};
      parts[i].value_size = 2;
    }
  }
  if (options.dtype == "auto") info.dtype = parts[0].value_size == 1 ? "uint8" : "uint16";
}

// As int64. `chunk` holds whole values.
void widen(std::span<const uint8_t> chunk, int value_size, std::vector<int64_t>& wide) {
  if (value_size == 1) return wide.assign(chunk.begin(), chunk.end());
  wide.clear();
  for (size_t i = 0; i < chunk.size(); i += 2) wide.push_back(int64_t{chunk[i]} | int64_t{chunk[i + 1]} << 8);
}

// Writes an .npy file and returns its SHA-256. Stops early, with neither complete, once `stopped` is set.
std::string write_tokens(const fs::path& path, const std::string& dtype, const Part& part,
                         const std::atomic<bool>& stopped) {
  constexpr size_t kChunk = size_t{64} << 10;
  formats::AtomicFile file(path);
  Sha256 hash;
  const auto write = [&](std::string_view bytes) {
    hash.update(bytes);
    file.write(bytes);
  };
  const bool many_classes = std::ranges::any_of(part.labels, [](int64_t label) { return label > UINT8_MAX; });
  const bool is_wide = dtype == "int64" || many_classes;
  const auto narrow_type = part.value_size == 1 ? formats::DType::uint8 : formats::DType::uint16;
  write(formats::npy_header(is_wide ? formats::DType::int64 : narrow_type, part.shape));
  const std::vector<uint8_t> narrow(part.labels.begin(), part.labels.end());  // labels that fit
  std::span<const uint8_t> rest = part.values;
  if (many_classes)
    write({reinterpret_cast<const char*>(part.labels.data()), part.labels.size_bytes()});
  else if (!part.labels.empty())
    rest = narrow;
  std::vector<int64_t> wide;
  while (!rest.empty() && !stopped) {
    const auto chunk = rest.first(std::min(kChunk, rest.size()));
    rest = rest.subspan(chunk.size());
    if (is_wide) widen(chunk, part.value_size, wide);
    write(is_wide ? std::string_view(reinterpret_cast<const char*>(wide.data()), 8 * wide.size())
                  : std::string_view(reinterpret_cast<const char*>(chunk.data()), chunk.size()));
  }
  file.publish();
  return hash.hex();
}

// Writes the four .npy files in parallel and adds their sums to `info`. An exception from `waiting` ends the work.
void write_all(const fs::path& folder, const std::array<Part, 4>& parts, DatasetInfo& info,
               const WaitCallback& waiting) {
  constexpr auto kLookAgain = std::chrono::milliseconds(10);
  std::atomic<bool> stopped = false;
  std::array<std::future<std::string>, 4> written;
  for (size_t i = 0; i < parts.size(); ++i)
    written[i] = std::async(std::launch::async,
                            [&, i] { return write_tokens(folder / kOutputs[i], info.dtype, parts[i], stopped); });
  try {
    for (size_t i = 0; i < parts.size(); ++i) {
      do waiting();
      while (written[i].wait_for(kLookAgain) != std::future_status::ready);
      info.files.push_back({kOutputs[i], written[i].get()});
    }
  } catch (...) {
    stopped = true;
    throw;
  }
}

void check(const PrepareOptions& options) {
  if (options.dtype != "auto" && options.dtype != "int64")
    throw UsageError("--dtype " + options.dtype + ": must be auto or int64");
  if (is_url(options.source) && !options.source.starts_with("http://") && !options.source.starts_with("https://"))
    throw UsageError("--source " + options.source + ": must be a folder or an http or https URL");
}

DatasetInfo describe(const DatasetSource& dataset, const PrepareOptions& options) {
  if (options.palette.channels != 1)
    throw InputError(options.palette_file + ": its palette is RGB, and the images of " + dataset.title +
                     " are grey; take one of greys");
  DatasetInfo info;
  info.dataset = dataset.name;
  info.classes = dataset.classes;
  for (const RawFile& file : dataset.files) info.raw.push_back({file.name, file.sha256});
  return info;
}

// What the options, and not the images, say of the set.
void add_options(DatasetInfo& info, const PrepareOptions& options) {
  info.palette = options.palette;
  const bool one_byte = options.palette.size() <= UINT8_MAX + 1;
  info.dtype = options.dtype == "auto" ? (one_byte ? "uint8" : "uint16") : options.dtype;
  info.made_by = options.made_by;
}

// Whether the palette of a set is the one that the options ask for.
bool has_palette(const DatasetInfo& present, const DatasetInfo& wanted, const PrepareOptions& options) {
  if (!options.kmeans)
    return present.palette == wanted.palette && present.dtype == wanted.dtype && !present.kmeans_seed;
  const int64_t vocab = options.num_vocab > 0 ? options.num_vocab : default_vocab(present.palette.channels);
  return present.kmeans_seed == options.seed && present.palette.size() == vocab &&
         (options.dtype == "int64") == (present.dtype == "int64");
}

std::vector<PreparedFile> list_files(const fs::path& folder) {
  std::vector<PreparedFile> files;
  for (const char* name : kOutputs) {
    const auto header = formats::read_npy_header(folder / name);
    files.push_back({folder / name, std::string(formats::dtype_name(header.dtype)), header.shape});
  }
  return files;
}

// The files, if they are exactly those that would be written.
std::optional<std::vector<PreparedFile>> find_ready(const DatasetInfo& wanted, const PrepareOptions& options) {
  if (!fs::exists(options.data_dir / "dataset.yaml")) return std::nullopt;
  const ReadLock lock({options.data_dir / "dataset.yaml"}, options.waiting(), options.note);
  try {
    const auto present = read_dataset_info(options.data_dir);
    if (!present || present->dataset != wanted.dataset || !has_palette(*present, wanted, options) ||
        present->raw != wanted.raw || present->classes != wanted.classes)
      return std::nullopt;
    std::vector<std::future<bool>> matches;
    for (const DatasetInfo::File& file : present->files)
      matches.push_back(std::async(std::launch::async, [&, file] {
        return std::ranges::find(kOutputs, file.name) != kOutputs.end() &&
               sha256_of_file(options.data_dir / file.name) == file.sha256;
      }));
    if (matches.size() != kOutputs.size()) return std::nullopt;
    if (!std::ranges::all_of(matches, [](std::future<bool>& match) { return match.get(); })) return std::nullopt;
    return list_files(options.data_dir);
  } catch (const InputError&) {
    return std::nullopt;  // damaged or missing: they are written again
  }
}

// Whether the files of data_dir may be replaced.
void expect_replaceable_by(const PrepareOptions& options) {
  expect_replaceable(options.data_dir);
  if (!options.force) expect_own_files(options.data_dir);
}

// Says which data set is replaced.
void note_replaced(const PrepareOptions& options) {
  if (!options.note) return;
  try {
    if (const auto present = read_dataset_info(options.data_dir))
      options.note("replacing " + title_of(present->dataset) + ", " + std::to_string(present->palette.size()) +
                   (present->palette.channels == 1 ? " greys" : " colours") + ", in " + options.data_dir.string());
  } catch (const InputError&) {  // damaged
  }
}

// Quantizes the images, which are RGB or grey, and puts the set in place.
PrepareResult write_set(DatasetInfo info, std::array<Part, 4> parts, int64_t channels, const PrepareOptions& options) {
  // An exception from it, such as Interrupted, leaves the old set in place.
  const WaitCallback waiting = options.waiting();
  waiting();
  info.image_size = parts[0].shape[1];
  quantize(parts, channels, title_of(info.dataset), options, info);
  DatasetWriter writer(options.data_dir, waiting, options.note);
  write_all(writer.incoming(), parts, info, waiting);
  formats::write_atomically(writer.incoming() / "dataset.yaml", to_yaml(info));
  waiting();
  note_replaced(options);
  writer.publish();
  return {false, list_files(options.data_dir)};
}

PrepareResult find_or_make(const DatasetSource& dataset, const PrepareOptions& options) {
  check(options);
  DatasetInfo info = describe(dataset, options);
  add_options(info, options);
  if (!options.force)
    if (auto files = find_ready(info, options)) return {true, *std::move(files)};
  expect_replaceable_by(options);
  options.waiting()();
  std::array<std::string, 4> raw = read_raw_files(dataset, options);
  options.waiting()();
  std::array<Part, 4> parts;
  for (size_t i = 0; i < parts.size(); ++i) parts[i] = parse(raw[i], dataset.files[i].name);
  check(parts[0], parts[1], dataset.classes.size(), dataset.title + "'s training set");
  check(parts[2], parts[3], dataset.classes.size(), dataset.title + "'s test set");
  return write_set(std::move(info), std::move(parts), /*channels=*/1, options);
}

std::array<Part, 2> parts_of(RawImages::Part& part, int64_t side, int64_t channels) {
  const auto count = std::ssize(part.labels);
  if (count == 0 || std::ssize(part.pixels) != count * side * side * channels)
    throw InputError(std::to_string(part.pixels.size()) + " bytes are not " + std::to_string(count) + " images of " +
                     std::to_string(side) + " x " + std::to_string(side) + " pixels of " + std::to_string(channels) +
                     " channels");
  return {Part{{count, side, side}, part.pixels}, Part{{count}, {}, part.labels}};
}

// Of a dataset that is not made of IDX files. Its images are read only where its files are not there already.
PrepareResult find_or_make(ImageSource& source, const PrepareOptions& options) {
  check(options);
  DatasetInfo info;
  info.dataset = source.name();
  info.classes = source.classes();
  add_options(info, options);
  if (!options.force && fs::exists(options.data_dir / "dataset.yaml")) {
    info.raw = source.sums();
    if (auto files = find_ready(info, options)) return {true, *std::move(files)};
  }
  expect_replaceable_by(options);
  RawImages images = source.read();
  if (images.channels != 1 && images.channels != 3)
    throw InputError("images have 1 or 3 channels, not " + std::to_string(images.channels));
  info.raw = source.sums();
  std::array<Part, 4> parts;
  for (const size_t i : {0, 2}) {
    auto [x, y] = parts_of(i == 0 ? images.train : images.test, images.side, images.channels);
    parts[i] = x, parts[i + 1] = y;
  }
  return write_set(std::move(info), std::move(parts), images.channels, options);
}

template <class Work>
PrepareResult with_messages(const Work& work) try {
  const Sha256 started_early;  // while there is memory for OpenSSL
  return work();
} catch (const fs::filesystem_error& error) {
  throw Error(error.path1().string() + ": " + error.code().message() + "; check that you may read and write there");
}

}  // namespace

PrepareResult prepare(const DatasetSource& dataset, const PrepareOptions& options) {
  return with_messages([&] {
    const auto source = open_image_source(dataset, options);
    return source ? find_or_make(*source, options) : find_or_make(dataset, options);
  });
}

PrepareResult prepare(ImageSource& source, const PrepareOptions& options) {
  return with_messages([&] { return find_or_make(source, options); });
}

}  // namespace igpt::data
