// The hostile files of scripts/make_hostile_corpus.py, given to the programs. The fuzz targets read all of them without
// the programs; here are those of which each says something of its own.
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

// How a file comes to a program: lays it in `folder`, where the command then runs.
using Command = std::vector<std::string> (*)(const fs::path& file, const TemporaryFolder& folder);

const std::vector<std::string> quickly = {"--threads", "1", "-q"};
const std::vector<std::string> one_sample = {"--num_examples", "1", "--num_samples", "1"};

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::vector<std::string> as_checkpoint_of_sample(const fs::path& file, const TemporaryFolder&) {
  return joined(joined({program("sample"), file, "--test_x", corpus / "npy/good_uint8"}, one_sample), quickly);
}
std::vector<std::string> as_checkpoint_of_test(const fs::path& file, const TemporaryFolder&) {
  const std::string data = corpus / "npy/good_uint8";
  return joined({program("run"), "test", file, "--test_x", data, "--test_y", corpus / "npy/good_labels"}, quickly);
}
std::vector<std::string> as_checkpoint_of_gif(const fs::path& file, const TemporaryFolder&) {
  return joined({program("gif"), file, "--rows", "1", "--cols", "1"}, quickly);
}
std::vector<std::string> as_images(const fs::path& file, const TemporaryFolder&) {
  const std::string checkpoint = corpus / "torch_file/good_zip";
  return joined(joined({program("sample"), checkpoint, "--test_x", file}, one_sample), quickly);
}
std::vector<std::string> as_configuration(const fs::path& file, const TemporaryFolder&) {
  return joined({program("run"), "train", "--name", "x", "--config", file, "--train_x", "none/x.npy"}, quickly);
}
std::vector<std::string> as_dataset_yaml(const fs::path& file, const TemporaryFolder& folder) {
  fs::create_directory(folder / "data");
  fs::create_symlink(file, folder / "data/dataset.yaml");
  return joined({program("run"), "train", "--name", "x"}, quickly);
}

// All four files of MNIST are this one.
std::vector<std::string> as_source(const fs::path& file, const TemporaryFolder& folder, const std::string& ending) {
  fs::create_directory(folder / "raw");
  for (const std::string kind : {"images-idx3", "labels-idx1"})
    for (const std::string part : {"train-", "t10k-"})
      fs::create_symlink(file, folder / ("raw/" + part + kind + "-ubyte" + ending));
  return {program("prepare_data"), "--source", "raw", "-q"};
}
std::vector<std::string> as_idx(const fs::path& file, const TemporaryFolder& folder) {
  return as_source(file, folder, "");
}
std::vector<std::string> as_gzip(const fs::path& file, const TemporaryFolder& folder) {
  return as_source(file, folder, ".gz");
}

struct Case {
  fs::path file;
  Command command;
  fs::path ordinary;  // a file that shows what the program takes anyway
};

void PrintTo(const Case& test, std::ostream* out) {
  *out << test.file;
}

class HostileFile : public ::testing::TestWithParam<Case> {
 protected:
  static Ending run(const fs::path& file, Command command, const TemporaryFolder& folder) {
    return igpt::testing::run(command(file, folder), {}, folder.path(), std::chrono::seconds(60));
  }
  static const Ending& ordinary(const Case& test) {
    static std::map<std::pair<fs::path, Command>, Ending> known;
    const auto [place, added] = known.try_emplace({test.ordinary, test.command});
    if (added) place->second = run(test.ordinary, test.command, TemporaryFolder());
    return place->second;
  }
};

TEST_P(HostileFile, IsReadOrRefusedOnOneLine) {
  const TemporaryFolder folder;
  const Ending ending = run(GetParam().file, GetParam().command, folder);
  if (ending.exit_code != 0) {
    EXPECT_THAT(ending.exit_code, ::testing::AnyOf(1, 2)) << "signal " << ending.signal << ": " << ending.err;
    EXPECT_EQ(ending.out, "");
    EXPECT_EQ(ending.err.find('\n'), ending.err.size() - 1) << ending.err;
    EXPECT_LT(ending.err.size(), 600u) << ending.err;
    EXPECT_THAT(ending.err, ::testing::StartsWith(fs::path(GetParam().command(GetParam().file, {})[0]).filename()));
    EXPECT_EQ(ending.err.find("std::"), std::string::npos) << ending.err;
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

// Of lengths one of each kind, of checkpoints the zip container unless it is about the other one.
bool says_something_new(const std::string& kind, const std::string& name) {
  if (name.starts_with("good")) return false;
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

std::vector<Case> cases(const std::string& kind, Command command, const fs::path& ordinary) {
  std::vector<Case> result;
  if (!fs::exists(corpus / kind)) return result;
  for (const auto& entry : fs::directory_iterator(corpus / kind))
    if (says_something_new(kind, entry.path().filename())) result.push_back({entry.path(), command, corpus / ordinary});
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

IGPT_HOSTILE(Checkpoint, cases("torch_file", as_checkpoint_of_sample, "torch_file/good_zip"));
IGPT_HOSTILE(Images, cases("npy", as_images, "npy/good_uint8"));
IGPT_HOSTILE(Idx, cases("idx", as_idx, "idx/good_images"));
IGPT_HOSTILE(Gzip, cases("gzip", as_gzip, "gzip/good"));
IGPT_HOSTILE(Configuration, cases("yaml", as_configuration, "yaml/good_comments"));

// Of those for the parser, which has read them as a configuration, only a few.
std::vector<Case> dataset_cases() {
  auto all = cases("yaml", as_dataset_yaml, "yaml/good_comments");
  std::erase_if(all, [](const Case& test) {
    const std::string name = test.file.filename();
    const std::string words[] = {"dataset", "palette", "sums", "image_size", "laughs", "nested_br", "10e5", "utf"};
    return std::ranges::none_of(words, [&](const auto& word) { return name.find(word) != std::string::npos; });
  });
  return all;
}
IGPT_HOSTILE(Dataset, dataset_cases());

std::vector<Case> all_large() {
  std::vector<Case> result;
  if (!fs::exists(corpus / "large")) return result;
  for (const auto& entry : fs::directory_iterator(corpus / "large")) {
    const std::string extension = entry.path().extension();
    if (extension == ".ckpt") result.push_back({entry.path(), as_checkpoint_of_sample, corpus / "torch_file/good_zip"});
    if (extension == ".npy") result.push_back({entry.path(), as_images, corpus / "npy/good_uint8"});
    if (extension == ".gz") result.push_back({entry.path(), as_gzip, corpus / "gzip/good"});
    if (extension == ".yaml") result.push_back({entry.path(), as_dataset_yaml, corpus / "yaml/good_comments"});
  }
  return result;
}
IGPT_HOSTILE(Large, all_large());

// The other programs read checkpoints by the same code: a few of each.
std::vector<Case> some(Command command) {
  std::vector<Case> result;
  for (const std::string name : {"weights_nan_zip", "zero_stride_2e40_zip", "run_global_reduce_zip", "all_2e31_zip"})
    result.push_back({corpus / "torch_file" / name, command, corpus / "torch_file/good_zip"});
  return result;
}
IGPT_HOSTILE(CheckpointOfTest, some(as_checkpoint_of_test));
IGPT_HOSTILE(CheckpointOfGif, some(as_checkpoint_of_gif));

TEST(HostileFiles, GoodOnesAreAccepted) {
  ASSERT_TRUE(fs::exists(corpus / "torch_file")) << "run scripts/make_hostile_corpus.py " << corpus.string();
  for (const auto& entry : fs::directory_iterator(corpus / "torch_file")) {
    if (!entry.path().filename().string().starts_with("good")) continue;
    const TemporaryFolder folder;
    const Ending ending = igpt::testing::run(as_checkpoint_of_sample(entry.path(), folder), {}, folder.path());
    EXPECT_EQ(ending.exit_code, 0) << entry.path() << ": " << ending.err;
  }
}

}  // namespace
}  // namespace igpt
