#include "igpt/data/split.h"

#include <algorithm>
#include <string>
#include <utility>

#include "igpt/data/datasets.h"
#include "igpt/data/sha256.h"
#include "igpt/error.h"
#include "igpt/formats/npy.h"
#include "igpt/shell_quoted.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kChanged = ": changed while it was read; try again";

std::string in_words(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text.empty() ? "a single number" : text;
}

fs::path folder_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : ".";
}

// What to do where a file is missing; one of another name was named by the user.
std::string how_to_get(const fs::path& path, const ExpectedSplit& expected) {
  const std::string name = path.filename().string();
  const fs::path folder = folder_of(path);
  const bool is_ours = name == "train_x.npy" || name == "train_y.npy" || name == "test_x.npy" || name == "test_y.npy";
  if (!is_ours) return "check the name; prepare_data makes such files";
  auto command = prepare_command(expected, expected.dataset, path);
  if (command.empty())
    command = "prepare_data" + (folder == "data" ? "" : " --data_dir " + shell_quoted(folder.string()));
  return "run `" + command + "` first, or name the folder of your files with --data_dir";
}

formats::NpyHeader header_of(const fs::path& path, const ExpectedSplit& expected) {
  std::error_code error;
  if (!fs::exists(path, error)) throw InputError(path.string() + ": no such file; " + how_to_get(path, expected));
  return formats::read_npy_header(path);
}

void check_images(const fs::path& x, const std::vector<int64_t>& images, const ExpectedSplit& expected) {
  if (images.size() != 3 || images[1] != images[2])
    throw InputError(x.string() + ": has the shape " + in_words(images) +
                     ", images are N x h x h; was it made by prepare_data?");
  if (images[0] < 1 || images[1] < 1) throw InputError(x.string() + ": holds no images; run prepare_data again");
  if (images[1] == expected.num_pixels.value_or(images[1])) return;
  const auto side = [](int64_t pixels) { return std::to_string(pixels) + "x" + std::to_string(pixels); };
  throw InputError(x.string() + ": its images are " + side(images[1]) + ", the model takes " +
                   side(*expected.num_pixels) + "; " + expected.other_size_cure);
}

void check_labels(const fs::path& x, const std::vector<int64_t>& images, const fs::path& y,
                  const std::vector<int64_t>& labels) {
  if (labels.size() != 1)
    throw InputError(y.string() + ": has the shape " + in_words(labels) +
                     ", labels are N; was it made by prepare_data?");
  if (labels[0] != images[0])
    throw InputError(y.string() + ": has " + std::to_string(labels[0]) + " labels for the " +
                     std::to_string(images[0]) + " images of " + x.string() + "; give two files that belong together");
}

bool is_greys(const Palette& palette) {
  const int64_t size = palette.size();
  return palette.channels == 1 && size >= 2 && size <= 256 && palette == Palette::grey(size);
}

std::string how_to_quantize(const ExpectedSplit& expected) {
  const bool own_palette = expected.palette && !is_greys(*expected.palette);
  if (own_palette) return "; prepare_data --palette " + shell_quoted(expected.checkpoint) + " makes such files";
  return std::string(expected.num_vocab == 16 ? ": for the 16 greys byte // 17 of bytes 0 to 255" : "") +
         "; prepare_data makes such files";
}

// Reads images whose header is known already.
Tokens read_tokens(const fs::path& x, const formats::NpyHeader& header, const ExpectedSplit& expected) {
  const auto values_of = [&](auto images) {
    if (images.shape != header.shape) throw InputError(x.string() + kChanged);
    return std::move(images.values);
  };
  const int64_t largest = std::clamp<int64_t>(expected.num_vocab, 1, kLargestVocab) - 1;
  const std::string cure = "images are palette indices, not pixels" + how_to_quantize(expected);
  if (largest > UINT8_MAX)
    return values_of(formats::read_npy<int16_t>(x, /*minimum=*/0, static_cast<int16_t>(largest), cure));
  return values_of(formats::read_npy<uint8_t>(x, 0, static_cast<uint8_t>(largest), cure));
}

// What dataset.yaml says of a file, unless the file changed since dataset.yaml was written.
std::optional<DatasetInfo> info_of(const fs::path& x, const NoteCallback& note) {
  const fs::path file = fs::canonical(x), yaml = file.parent_path() / "dataset.yaml";
  auto info = read_dataset_info(file.parent_path());
  if (!info) return std::nullopt;
  const auto described = std::ranges::find(info->files, file.filename().string(), &DatasetInfo::File::name);
  if (described == info->files.end()) return std::nullopt;
  if (sha256_of_file(file) == described->sha256) return info;
  if (note)
    note(x.string() + ": is not the file that " + yaml.string() +
         " describes (its SHA-256 is another one); its palette and data set are not known");
  return std::nullopt;
}

bool same_colours(const Palette& a, const Palette& b) {
  return a.channels == b.channels && a.colours == b.colours;
}

std::string in_words(const Palette& palette) {
  return std::to_string(palette.size()) + (is_greys(palette) ? " evenly spaced greys" : " colours of its own");
}

// Compares the palettes of images and checkpoint where both are known.
void check_palette(const fs::path& x, const std::optional<DatasetInfo>& info, const ExpectedSplit& expected) {
  if (!info || expected.checkpoint.empty()) return;
  if (expected.lacks_palette)
    throw InputError(expected.checkpoint + ": its tokens are indices of a palette that it does not hold, and " +
                     x.string() + " has " + in_words(info->palette) + "; take a checkpoint that holds its centroids");
  if (!expected.palette || same_colours(*expected.palette, info->palette)) return;
  const bool other_dataset = !expected.dataset.empty() && expected.dataset != info->dataset;
  const std::string command = prepare_command(expected, other_dataset ? expected.dataset : info->dataset, x);
  const std::string words = in_words(info->palette), its_words = in_words(*expected.palette);
  const std::string images = other_dataset ? "are of " + title_of(info->dataset) + " in" : "have";
  const std::string model = other_dataset ? " was trained on " + title_of(expected.dataset) + " in" : "";
  throw InputError(x.string() + ": its images " + images + " a palette of " + words + ", says " +
                   (folder_of(x) / "dataset.yaml").string() + ", and " + expected.checkpoint + model + " one of " +
                   (words == its_words ? std::to_string(info->palette.size()) + " other colours" : its_words) + "; " +
                   (command.empty() ? "give it images in its own palette" : "run `" + command + "`"));
}

template <class T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

std::string prepare_command(const ExpectedSplit& expected, const std::string& dataset, const fs::path& x) {
  const bool default_palette = !expected.palette || *expected.palette == Palette::grey(16);
  return prepare_data_command(dataset, folder_of(x), default_palette ? "" : expected.checkpoint);
}

std::string fingerprint(const Split& split) {
  Sha256 hash;
  hash.update(std::to_string(split.count) + " images of " + std::to_string(split.num_pixels) + "\n");
  std::visit([&](const auto& tokens) { hash.update(bytes_of(tokens)); }, split.tokens);
  hash.update(bytes_of(split.labels));
  return hash.hex();
}

Split read_split(const fs::path& x, const fs::path& y, const ExpectedSplit& expected, const WaitCallback& waiting,
                 const NoteCallback& note) {
  const bool labelled = !y.empty();
  const ReadLock lock(labelled ? std::vector{x, y} : std::vector{x}, waiting, note);
  // All shapes are checked before memory is allocated for the values.
  const formats::NpyHeader images = header_of(x, expected);
  check_images(x, images.shape, expected);
  const std::vector<int64_t> label_shape = labelled ? header_of(y, expected).shape : std::vector<int64_t>{};
  if (labelled) check_labels(x, images.shape, y, label_shape);
  auto info = info_of(x, note);
  check_palette(x, info, expected);
  auto tokens = read_tokens(x, images, expected);
  auto labels =
      labelled ? formats::read_npy<int64_t>(y, /*minimum=*/0, INT64_MAX, "labels are the numbers of classes, 0, 1, ...")
               : formats::NpyArray<int64_t>{};
  if (labels.shape != label_shape) throw InputError(y.string() + kChanged);
  return {images.shape[0], images.shape[1], std::move(tokens), std::move(labels.values), std::move(info)};
}

}  // namespace igpt::data
