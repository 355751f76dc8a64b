#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "igpt/data/dataset_folder.h"
#include "igpt/model/image_gpt_options.h"

namespace igpt::data {

/// (N, num_pixels, num_pixels): one byte each, or two for a palette of more than 256 colours.
using Tokens = std::variant<std::vector<uint8_t>, std::vector<int16_t>>;

/// The images of a training or test set as tokens.
struct Split {
  int64_t count = 0;       ///< N, at least 1
  int64_t num_pixels = 0;  ///< per side
  Tokens tokens;
  std::vector<int64_t> labels;  ///< (N), at least 0; empty if they were not read
  /// What the dataset.yaml beside x (or beside the file to which a link x leads) says of it; nothing if there is none,
  /// or if it describes another file.
  std::optional<DatasetInfo> info = {};
};

/// The SHA-256 of the images, independent of the integer type of their file, and of the labels that were read.
std::string fingerprint(const Split& split);

/// What a model expects of its images.
struct ExpectedSplit {
  int64_t num_vocab = 256;            ///< tokens are below it; at most kLargestVocab
  std::optional<int64_t> num_pixels;  ///< per side
  std::string other_size_cure;        ///< end of the message about images of another size
  std::string checkpoint;             ///< of the model; empty: a new model, which takes any palette
  std::string dataset;                ///< on which it was trained; empty: unknown
  std::optional<Palette> palette;     ///< of the checkpoint; nothing if unknown
  bool lacks_palette = false;         ///< the checkpoint lacks the palette of its tokens
};

/// The command that makes `dataset` in the palette of the expected checkpoint, for a file `x`; empty if prepare_data
/// cannot make it.
std::string prepare_command(const ExpectedSplit& expected, const std::string& dataset, const std::filesystem::path& x);

/// Reads files such as prepare_data writes: `x` (N, h, h) of any integer dtype, and `y` (N), or an empty path where the
/// labels are not needed. Shapes are checked before any values are read. Takes a ReadLock for both files; to read
/// several splits that belong together, hold one lock for all of them. Throws igpt::InputError that names the file, the
/// cause and the cure, also when the palettes of checkpoint and images are known and differ.
Split read_split(const std::filesystem::path& x, const std::filesystem::path& y, const ExpectedSplit& expected = {},
                 const WaitCallback& waiting = {}, const NoteCallback& note = {});

}  // namespace igpt::data
