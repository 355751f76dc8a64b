// The hostile files of tests/hostile/make_hostile_corpus.py, given to the programs: each must be read or refused as its
// folder says. The fuzz targets read all of them without the programs; here are those that each test something of their
// own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "process.h"
#include "sanitized.h"
#include "temporary_folder.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;
using igpt::testing::Ending;
using igpt::testing::program;
using igpt::testing::TemporaryFolder;

const fs::path corpus = IGPT_CORPUS;

constexpr uint64_t allowed_memory = uint64_t{64} << 20;  // beyond twice the file and what the program takes anyway
constexpr double allowed_seconds = 2;                    // beyond what the program takes anyway

// How a file is given to a program, in whose working folder it may be laid.
struct Command {
  std::vector<std::string> arguments;
  std::string file;        // how the program names the file in messages
  std::string after = "";  // what it says when it has read the file and fails later
};
using MakeCommand = Command (*)(const fs::path& file, const TemporaryFolder& folder);

const std::vector<std::string> quickly = {"--threads", "1", "-q"};
const std::vector<std::string> one_sample = {"--num_examples", "1", "--num_samples", "1"};

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Command as_checkpoint_of_sample(const fs::path& file, const TemporaryFolder&) {
  return {joined(joined({program("sample"), file, "--test_x", corpus / "npy/read/good_uint8"}, one_sample), quickly),
          file};
}
Command as_checkpoint_of_test(const fs::path& file, const TemporaryFolder&) {
  const fs::path data = corpus / "npy/read/good_uint8", labels = corpus / "npy/refused/good_labels";
  return {joined({program("run"), "test", file, "--test_x", data, "--test_y", labels}, quickly), file};
}
Command as_checkpoint_of_gif(const fs::path& file, const TemporaryFolder&) {
  return {joined({program("gif"), file, "--rows", "1", "--cols", "1"}, quickly), file};
}
// A valid file of tensors, which are those of no model.
Command as_safetensors(const fs::path& file, const TemporaryFolder& folder) {
  Command command = as_checkpoint_of_sample(file, folder);
  command.after = "names no configuration of a model";
  return command;
}
// One file of a folder as transformers writes it.
Command as_file_of_folder(const fs::path& file, const TemporaryFolder& folder, const std::string& name) {
  fs::copy(fs::path(IGPT_GOLDEN) / "hugging_face/generator", folder / "model");
  fs::remove(folder / "model" / name);
  fs::create_symlink(file, folder / "model" / name);
  return {joined({program("gif"), "model", "--rows", "1", "--cols", "1"}, quickly), "model"};
}
Command as_config(const fs::path& file, const TemporaryFolder& folder) {
  return as_file_of_folder(file, folder, "config.json");
}
Command as_processor(const fs::path& file, const TemporaryFolder& folder) {
  return as_file_of_folder(file, folder, "preprocessor_config.json");
}
// No array of pixels is one of colours.
Command as_palette(const fs::path& file, const TemporaryFolder& folder) {
  fs::create_symlink(file, folder / "palette.npy");
  return {{program("prepare_data"), "--palette", "palette.npy", "--source", "none", "-q"}, "palette.npy", "a palette"};
}
Command as_images(const fs::path& file, const TemporaryFolder&) {
  const fs::path checkpoint = corpus / "torch_file/read/good_zip";
  return {joined(joined({program("sample"), checkpoint, "--test_x", file}, one_sample), quickly), file};
}
Command as_configuration(const fs::path& file, const TemporaryFolder&) {
  return {joined({program("run"), "train", "--name", "x", "--config", file, "--train_x", "none/x.npy"}, quickly), file,
          "none/x.npy: no such file"};
}
Command as_dataset_yaml(const fs::path& file, const TemporaryFolder& folder) {
  fs::create_directory(folder / "data");
  fs::copy_file(corpus / "npy/read/good_uint8", folder / "data/x.npy");
  fs::create_symlink(file, folder / "data/dataset.yaml");
  return {as_images("data/x.npy", folder).arguments, "data/dataset.yaml"};
}

// All four files of MNIST are this one, whose bytes are not theirs whatever it holds.
Command as_source(const fs::path& file, const TemporaryFolder& folder, const std::string& ending) {
  fs::create_directory(folder / "raw");
  for (const std::string kind : {"images-idx3", "labels-idx1"})
    for (const std::string part : {"train-", "t10k-"})
      fs::create_symlink(file, folder / ("raw/" + part + kind + "-ubyte" + ending));
  return {
      {program("prepare_data"), "--source", "raw", "-q"}, "raw/train-images-idx3-ubyte", "does not hold the bytes of"};
}
Command as_idx(const fs::path& file, const TemporaryFolder& folder) {
  return as_source(file, folder, "");
}
Command as_gzip(const fs::path& file, const TemporaryFolder& folder) {
  return as_source(file, folder, ".gz");
}

// One of two pictures, which are too few to do without one.
Command as_picture(const fs::path& file, const TemporaryFolder& folder) {
  for (const char* name : {"a", "b"}) fs::create_directories(folder / "pictures" / name);
  fs::create_symlink(file, folder / "pictures/a/x.png");
  fs::create_symlink(corpus / "image/read/good_rgb", folder / "pictures/b/x.png");
  return {{program("prepare_data"), "--dataset", "folder", "--source", "pictures", "-q"}, "pictures/a/x.png"};
}

struct Case {
  fs::path file;
  MakeCommand command;
  fs::path ordinary;  // a file that shows what the program takes anyway
};

void PrintTo(const Case& test, std::ostream* out) {
  *out << test.file;
}

// The folder in which the corpus's script put the file.
bool must_be_read(const fs::path& file) {
  return file.parent_path().filename() == "read";
}

class HostileFile : public ::testing::TestWithParam<Case> {
 protected:
  static Ending run(const Command& command, const TemporaryFolder& folder) {
    return igpt::testing::run(command.arguments, {}, folder.path(), std::chrono::seconds(60));
  }
  static const Ending& ordinary(const Case& test) {
    static std::map<std::pair<fs::path, MakeCommand>, Ending> known;
    const auto [place, added] = known.try_emplace({test.ordinary, test.command});
    const TemporaryFolder folder;
    if (added) place->second = run(test.command(test.ordinary, folder), folder);
    return place->second;
  }
};

TEST_P(HostileFile, IsReadOrRefusedAsItMustBe) {
  const TemporaryFolder folder;
  const Command command = GetParam().command(GetParam().file, folder);
  const Ending ending = run(command, folder);
  if (ending.exit_code != 0) {
    EXPECT_THAT(ending.exit_code, ::testing::AnyOf(1, 2)) << "signal " << ending.signal << ": " << ending.err;
    EXPECT_EQ(ending.out, "");
    EXPECT_EQ(ending.err.find('\n'), ending.err.size() - 1) << ending.err;
    EXPECT_LT(ending.err.size(), 600u) << ending.err;
    EXPECT_THAT(ending.err, ::testing::StartsWith(fs::path(command.arguments[0]).filename()));
    EXPECT_EQ(ending.err.find("std::"), std::string::npos) << ending.err;
  }
  if (!must_be_read(GetParam().file)) {
    EXPECT_NE(ending.exit_code, 0) << "was read";
    EXPECT_THAT(ending.err, ::testing::HasSubstr(command.file)) << "was not what was refused";
  } else if (command.after.empty()) {
    EXPECT_EQ(ending.exit_code, 0) << ending.err;
  } else {
    EXPECT_THAT(ending.err, ::testing::HasSubstr(command.after));
  }
  EXPECT_FALSE(fs::exists(folder / "igpt_was_here")) << "it ran code";
  if (sanitized) return;
  const Ending& usual = ordinary(GetParam());
  const uint64_t limit = usual.peak_memory + 2 * fs::file_size(GetParam().file) + allowed_memory;
  EXPECT_LE(ending.peak_memory, limit) << (usual.peak_memory >> 20) << " MiB otherwise";
  EXPECT_LE(ending.cpu_seconds, usual.cpu_seconds + allowed_seconds);
}

bool ends_with_any(const std::string& name, const std::vector<std::string>& endings) {
  return std::ranges::any_of(endings, [&](const auto& ending) { return name.ends_with(ending); });
}

// One length of each kind, and checkpoints in the zip container unless they are about the other one. All good files.
bool tests_something_new(const std::string& kind, const std::string& name) {
  if (name.starts_with("good")) return true;
  if (kind == "torch_file") {
    if (name.starts_with("not_a_checkpoint")) return false;
    if (name.starts_with("container_method_") || name.starts_with("container_name_x")) return false;
    if (name.starts_with("container_")) return !ends_with_any(name, {"_0", "_minus_1", "_2e31", "_2e63"});
    const bool option = name.starts_with("num_") || name.starts_with("embed_dim_");
    if (option) return ends_with_any(name, {"_2e31_zip", "_text_zip"});
    return !name.ends_with("_legacy");
  }
  if (kind == "yaml") return !ends_with_any(name, {"_in_a_value", "_short"});
  if (kind == "npy") return !ends_with_any(name, {"_version_2", "_squared", "_minus_1", "_2e31"});
  return !name.starts_with("cut_at_");
}

std::vector<Case> cases(const std::string& kind, MakeCommand command, const fs::path& ordinary) {
  std::vector<Case> result;
  if (!fs::exists(corpus / kind)) return result;
  for (const auto& entry : fs::recursive_directory_iterator(corpus / kind))
    if (entry.is_regular_file() && tests_something_new(kind, entry.path().filename()))
      result.push_back({entry.path(), command, corpus / ordinary});
  std::ranges::sort(result, {}, &Case::file);
  return result;
}

std::string test_name(const ::testing::TestParamInfo<Case>& parameter) {
  std::string name = parameter.param.file.filename();
  std::ranges::replace_if(
      name, [](unsigned char c) { return c >= 0x80 || !std::isalnum(c); }, '_');
  return name;
}

using ::testing::ValuesIn;
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(HostileFile);
#define IGPT_HOSTILE(name, ...) INSTANTIATE_TEST_SUITE_P(name, HostileFile, ValuesIn(__VA_ARGS__), test_name)

IGPT_HOSTILE(Checkpoint, cases("torch_file", as_checkpoint_of_sample, "torch_file/read/good_zip"));
IGPT_HOSTILE(Safetensors, cases("safetensors", as_safetensors, "torch_file/read/good_zip"));
IGPT_HOSTILE(SafetensorsModel, cases("model", as_checkpoint_of_sample, "model/read/good"));
IGPT_HOSTILE(FolderConfig, cases("config", as_config, "config/read/good"));
IGPT_HOSTILE(FolderClusters, cases("clusters", as_processor, "clusters/read/good"));
IGPT_HOSTILE(Palette, cases("npy", as_palette, "npy/read/good_uint8"));
IGPT_HOSTILE(Images, cases("npy", as_images, "npy/read/good_uint8"));
IGPT_HOSTILE(Idx, cases("idx", as_idx, "idx/read/good_images"));
IGPT_HOSTILE(Gzip, cases("gzip", as_gzip, "gzip/read/good"));
IGPT_HOSTILE(Picture, cases("image", as_picture, "image/read/good_rgb"));
IGPT_HOSTILE(Configuration, cases("yaml", as_configuration, "yaml/read/good_comments"));
IGPT_HOSTILE(Dataset, cases("dataset", as_dataset_yaml, "dataset/read/good_dataset"));

std::vector<Case> all_large() {
  std::vector<Case> result;
  if (!fs::exists(corpus / "large")) return result;
  for (const auto& entry : fs::directory_iterator(corpus / "large/refused")) {
    const std::string extension = entry.path().extension();
    if (extension == ".ckpt" || extension == ".safetensors")
      result.push_back({entry.path(), as_checkpoint_of_sample, corpus / "torch_file/read/good_zip"});
    if (extension == ".npy") result.push_back({entry.path(), as_images, corpus / "npy/read/good_uint8"});
    if (extension == ".gz") result.push_back({entry.path(), as_gzip, corpus / "gzip/read/good"});
    if (extension == ".yaml") result.push_back({entry.path(), as_dataset_yaml, corpus / "dataset/read/good_dataset"});
  }
  return result;
}
IGPT_HOSTILE(Large, all_large());

// The other programs read checkpoints by the same code: a few of each.
std::vector<Case> some(MakeCommand command) {
  std::vector<Case> result;
  const fs::path good = corpus / "torch_file/read/good_zip";
  for (const std::string name : {"weights_nan_zip", "zero_stride_2e40_zip", "run_global_reduce_zip", "all_2e31_zip"})
    result.push_back({corpus / "torch_file/refused" / name, command, good});
  result.push_back({good, command, good});
  return result;
}
IGPT_HOSTILE(CheckpointOfTest, some(as_checkpoint_of_test));
IGPT_HOSTILE(CheckpointOfGif, some(as_checkpoint_of_gif));

TEST(HostileFiles, TheCorpusIsThere) {
  ASSERT_TRUE(fs::exists(corpus / "torch_file")) << "run tests/hostile/make_hostile_corpus.py " << corpus.string();
}

}  // namespace
}  // namespace igpt
