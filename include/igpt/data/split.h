#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "igpt/data/dataset_folder.h"
#include "igpt/model/options.h"

namespace igpt::data {

/// (N, num_pixels, num_pixels): bytes, or two bytes each for a palette of more than 256 colours.
using Tokens = std::variant<std::vector<uint8_t>, std::vector<int16_t>>;

/// Images of a training or test set as tokens.
struct Split {
  int64_t count = 0;       ///< N, at least 1
  int64_t num_pixels = 0;  ///< pixels a side
  Tokens tokens;
  std::vector<int64_t> labels;  ///< (N), at least 0; none where they were not read
  /// What the dataset.yaml beside x (or beside what a link x leads to) says of it; nothing where there is none, or it
  /// describes another file.
  std::optional<DatasetInfo> info = {};
};

/// SHA-256 of the images, whatever the integer type of their file, and of the labels that were read.
std::string fingerprint(const Split& split);

/// What a model takes.
struct ExpectedSplit {
  int64_t num_vocab = 256;            ///< tokens are below it; at most kLargestVocab
  std::optional<int64_t> num_pixels;  ///< pixels a side
  std::string other_size_cure;        ///< ends the message about images of another size
  std::string checkpoint;             ///< of the model; empty: a new one, which takes any palette
  std::string dataset;                ///< that trained it; empty: not known
  std::optional<Palette> palette;     ///< of the checkpoint; nothing where it is not known
  bool lacks_palette = false;         ///< the checkpoint's tokens have a palette of their own that it does not hold
};

/// What to type so that file `x` holds `dataset` in the palette of the expected checkpoint; empty where prepare_data
/// cannot.
std::string prepare_command(const ExpectedSplit& expected, const std::string& dataset, const std::filesystem::path& x);

/// Reads the files that prepare_data writes, or any like them: `x` (N, h, h) with any integer dtype, `y` (N), or an
/// empty path where the labels are not needed. Shapes are checked before anything is read. Takes a ReadLock for the
/// two; whoever reads several splits that belong together holds one for all of them. Throws igpt::InputError that names
/// the file, the cause and the cure; also where the palettes of checkpoint and images are known and not the same.
Split read_split(const std::filesystem::path& x, const std::filesystem::path& y, const ExpectedSplit& expected = {},
                 const WaitCallback& waiting = {}, const NoteCallback& note = {});

}  // namespace igpt::data
