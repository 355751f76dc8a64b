#include "igpt/formats/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "formats/checkpoint_text.h"
#include "formats/hostile.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/zip.h"
#include "memory_file.h"
#include "temporary_folder.h"
#include "tensor_values.h"

namespace igpt::formats {
namespace {

using namespace std::string_literals;
using igpt::testing::elements_of;
using igpt::testing::memory_file;
using igpt::testing::TemporaryFolder;
using igpt::testing::tensor_of;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

const fs::path golden = fs::path(IGPT_GOLDEN) / "checkpoints";

std::string file_text(const fs::path& path) {
  return read_file(path, uint64_t{1} << 30);
}

PickleValue parse(const std::string& bytes) {
  return read_torch_file(memory_file(bytes), "x.ckpt");
}

std::string refusal_of(const std::string& bytes) {
  return refusal([&] { parse(bytes); });
}

class Golden : public ::testing::TestWithParam<fs::path> {};

TEST_P(Golden, ReadsAsPythonSavedIt) {
  const auto& path = GetParam();
  const std::string name = path.filename().string();
  EXPECT_EQ(checkpoint_text(read_torch_file(path)), file_text(golden / (name.substr(0, name.find('.')) + ".txt")));
}

TEST_P(Golden, EveryTruncationIsRefusedOnOneLine) {
  const std::string bytes = file_text(GetParam());
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_NE(refusal_of(bytes.substr(0, size)), "") << size << " bytes";
}

TEST_P(Golden, ChangedBytesAreReadOrRefused) {
  const std::string bytes = file_text(GetParam());
  const size_t step = 1 + bytes.size() / 700;
  for (size_t i = 0; i < bytes.size(); i += step)
    for (const int change : {1, 0x80, 0xff}) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ change);
      try {
        checkpoint_text(parse(changed));
      } catch (const InputError&) {
      }
    }
}

std::vector<fs::path> golden_files() {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(golden))
    if (entry.path().extension() == ".pt") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::string test_name(const ::testing::TestParamInfo<fs::path>& parameter) {
  std::string name = parameter.param.stem().string();
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(TorchFile, Golden, ::testing::ValuesIn(golden_files()), test_name);

// Whole models and objects of other kinds, as PyTorch saves them in both containers.
TEST(TorchFile, WhatIsNoPlainDataIsNamedWithAWayOn) {
  std::istringstream names(file_text(golden / "REFUSED.txt"));
  int files = 0;
  for (std::string name, asked; names >> name >> asked;)
    for (const std::string container : {".zip", ".legacy"}) {
      const std::string message = refusal([&] { read_torch_file(golden / (name + container + ".refused")); });
      if (name.starts_with("model"))
        EXPECT_THAT(message, HasSubstr("holds a whole model and not only its weights: it asks for " + asked + ","));
      else
        EXPECT_THAT(message, HasSubstr("asks for " + asked + ", which is not plain data"));
      EXPECT_THAT(message, HasSubstr("in PyTorch in a place you trust"));
      EXPECT_EQ(message.find("Do not trust"), message.npos) << message;
      ++files;
    }
  EXPECT_EQ(files, 16);
}

TEST(TorchFile, TensorsOfOneStorageShareIt) {
  for (const std::string name : {"tensors.zip2.pt", "tensors.legacy2.pt"}) {
    const PickleValue root = read_torch_file(golden / name);
    const PickleValue& state = *root.find("state_dict");
    EXPECT_EQ(state.find("tied_a")->as_tensor()->storage, state.find("tied_b")->as_tensor()->storage);
    EXPECT_EQ(state.find("contiguous")->as_tensor()->storage, state.find("transposed")->as_tensor()->storage);
    EXPECT_NE(state.find("contiguous")->as_tensor()->storage, state.find("tied_a")->as_tensor()->storage);
    EXPECT_EQ(state.type_name(), "collections.OrderedDict");
  }
}

TEST(TorchFile, BytesLiveAsLongAsATensor) {
  const PickleValue sos = *read_torch_file(golden / "lightning1.zip2.pt").find("state_dict")->find("gpt.sos");
  const std::vector<float> expected{0, 1, 2, 3};
  EXPECT_THAT(elements_of(*sos.as_tensor()), ::testing::ElementsAreArray(std::as_bytes(std::span(expected))));
}

// The files of the original project; the expected numbers are those that Python reads.
TEST(TorchFile, ReadsTheOriginalsFiles) {
  const auto folder = fs::path(IGPT_SOURCE).parent_path() / "shared" / "upstream";
  if (!fs::exists(folder / "fmnist_gen.ckpt")) GTEST_SKIP() << "without the original's files";
  const PickleValue root = read_torch_file(folder / "fmnist_gen.ckpt");
  EXPECT_EQ(root.find("global_step")->as_int(), 24476);
  EXPECT_EQ(*root.find("pytorch-ligthning_version")->as_string(), "0.8.1");
  EXPECT_EQ(root.find("hyper_parameters")->find("embed_dim")->as_int(), 16);
  int64_t parameters = 0;
  for (const auto& [name, value] : root.find("state_dict")->entries())
    if (name.as_string()->starts_with("gpt.")) parameters += value.as_tensor()->numel();
  EXPECT_EQ(parameters, 39514);
}

struct Stranger {
  std::string bytes, message;
};

TEST(TorchFile, WhatIsNoCheckpointIsNamed) {
  const std::string tar = "name" + std::string(253, '\0') + "ustar" + std::string(250, '\0');
  for (const auto& [bytes, message] :
       std::vector<Stranger>{{"", "is empty"},
                             {"\x89PNG\r\n\x1a\n", "is a PNG image, not a checkpoint"},
                             {"GIF89a", "is a GIF image, not a checkpoint"},
                             {"\xff\xd8\xff\xe0", "is a JPEG image"},
                             {"\x93NUMPY\1", "is a numpy array"},
                             {"\x1f\x8b\x08", "is compressed by gzip; gunzip it first"},
                             {"\0\0\x08\x03\0"s, "is an IDX file of images"},
                             {"<!DOCTYPE html>", "is a web page"},
                             {"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS"},
                             {"\x10\0\0\0\0\0\0\0{\"a\":"s, "is a safetensors file"},
                             {tar, "is a tar archive"},
                             {"P", "is cut off at byte 1; copy it again"},
                             {"steps: 300\n", "is not a checkpoint"},
                             {"\x80\2}.", "is a Python pickle that torch.save did not write"}})
    EXPECT_THAT(refusal_of(bytes), HasSubstr("x.ckpt: " + message));
  const TemporaryFolder folder;
  EXPECT_THAT(refusal([&] { read_torch_file(folder.path()); }), HasSubstr("is a folder"));
  EXPECT_THAT(refusal([&] { read_torch_file(folder / "none.ckpt"); }), HasSubstr("no such file"));
}

// A zip container of these records.
std::string zip_of(const std::vector<std::pair<std::string, std::string>>& records) {
  std::string archive;
  ZipWriter zip([&](std::span<const std::byte> bytes) {
    archive.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  for (const auto& [name, content] : records) zip.add(name, content);
  zip.finish();
  return archive;
}

std::string number(int64_t value) {
  return "\x8a\x08" + little_endian(value);
}

std::string storage_id(const std::string& type, const std::string& key, int64_t numel, const std::string& view = "") {
  return "(\x8c\7storagectorch\n" + type + "\n\x8c" + std::string(1, static_cast<char>(key.size())) + key +
         "\x8c\3cpu" + number(numel) + view + "tQ";
}

std::string tuple_of(const std::vector<int64_t>& numbers) {
  std::string result = "(";
  for (const auto value : numbers) result += number(value);
  return result + "t";
}

std::string tensor_of(const std::string& storage, int64_t offset, const std::vector<int64_t>& sizes,
                      const std::vector<int64_t>& strides) {
  return "ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + tuple_of(sizes) + tuple_of(strides) +
         "\x89NtR";
}

// Eight floats, seen through `pickled`.
std::string zip_with(const std::string& pickled) {
  return zip_of(
      {{"x/data.pkl", "\x80\2" + pickled + "."}, {"x/byteorder", "little"}, {"x/data/0", std::string(32, '\1')}});
}

std::string legacy_with(const std::string& pickled,
                        const std::string& keys =
                            "]\x8c\1"
                            "0a",
                        const std::string& storages = "", const std::string& system = "}\x8c\15little_endian\x88s") {
  return "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.\x80\2" + system + ".\x80\2" + pickled +
         ".\x80\2" + keys + "." + (storages.empty() ? little_endian(int64_t{8}) + std::string(32, '\1') : storages);
}

const std::string eight_floats = storage_id("FloatStorage", "0", 8);
constexpr int64_t huge = int64_t{1} << 62;

TEST(TorchFile, ReadsTheFilesThatTheseTestsMake) {
  const std::string tensor = tensor_of(eight_floats, 1, {2, 3}, {3, 1});
  EXPECT_EQ(parse(zip_with(tensor)).as_tensor()->numel(), 6);
  EXPECT_EQ(parse(legacy_with(tensor)).as_tensor()->numel(), 6);
  EXPECT_EQ(parse(zip_with(eight_floats)).as_tensor()->numel(), 8);
}

class HostileTensor : public ::testing::TestWithParam<Stranger> {};

TEST_P(HostileTensor, IsRefusedInBothContainers) {
  EXPECT_THAT(refusal_of(zip_with(GetParam().bytes)), HasSubstr(GetParam().message));
  EXPECT_THAT(refusal_of(legacy_with(GetParam().bytes)), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Hostile, HostileTensor,
    ::testing::Values(
        Stranger{tensor_of(eight_floats, 0, {9}, {1}), "beyond the end of its storage"},
        Stranger{tensor_of(eight_floats, 8, {1}, {1}), "beyond the end of its storage"},
        Stranger{tensor_of(eight_floats, 0, {2, 2}, {1, 7}), "beyond the end of its storage"},
        Stranger{tensor_of(eight_floats, huge, {2}, {huge}), "more elements than can be counted"},
        Stranger{tensor_of(eight_floats, 0, {huge, huge}, {0, 0}), "more elements than can be counted"},
        Stranger{tensor_of(eight_floats, 0, {int64_t{1} << 32, int64_t{1} << 32}, {1, 1}),
                 "more elements than can be counted"},
        Stranger{tensor_of(eight_floats, 0, {-1}, {1}), "negative size"},
        Stranger{tensor_of(eight_floats, 7, {2}, {-1}), "negative stride"},
        Stranger{tensor_of(eight_floats, -1, {1}, {1}), "before its storage"},
        Stranger{tensor_of(eight_floats, 0, {2, 2}, {1}), "strides"},
        Stranger{tensor_of(eight_floats, 0, {int64_t{1} << 40}, {0}), "far larger than the file"},
        Stranger{tensor_of(eight_floats, 0, {1 << 20, 1 << 20}, {0, 0}), "far larger than the file"},
        Stranger{"(" + repeated(tensor_of(eight_floats, 0, {1 << 20}, {0}), 5) + "t", "far larger than the file"},
        Stranger{"(" + tensor_of(eight_floats, 0, {1}, {1}) + storage_id("IntStorage", "0", 8) + "t", "two"},
        Stranger{"(" + eight_floats + storage_id("DoubleStorage", "0", 4) + "t", "two"},
        Stranger{storage_id("FloatStorage", "0", -1), "unknown way"},
        Stranger{storage_id("FloatStorage", "0", INT64_MIN), "unknown way"},
        Stranger{storage_id("FloatStorage", std::string(65, '0'), 8), "unknown way"},
        Stranger{"(\x8c\7storagectorch\nSize\n\x8c\1"
                 "0\x8c\3cpuK\x08tQ",
                 "unknown way"},
        Stranger{"(\x8c\6moduletQ", "save its state_dict() instead"}, Stranger{"NQ", "unknown way"},
        Stranger{")Q", "unknown way"}, Stranger{"cos\nsystem\n", "asks for os.system"}));

TEST(TorchFile, StorageMustHaveTheSizeThatIsSaid) {
  for (const int64_t numel : {int64_t{0}, int64_t{7}, int64_t{9}, int64_t{1} << 31, int64_t{1} << 61, INT64_MAX}) {
    EXPECT_THAT(refusal_of(zip_with(storage_id("FloatStorage", "0", numel))), HasSubstr("x.ckpt: ")) << numel;
    EXPECT_THAT(refusal_of(legacy_with(storage_id("FloatStorage", "0", numel))), HasSubstr("x.ckpt: ")) << numel;
  }
}

TEST(ZipContainer, RecordsAreLookedUpByWholeNames) {
  EXPECT_THAT(refusal_of(zip_with(storage_id("FloatStorage", "1", 8))), HasSubstr("has no data/1"));
  EXPECT_THAT(refusal_of(zip_with(storage_id("FloatStorage", "../data/0", 8))), HasSubstr("has no data/../data/0"));
  EXPECT_THAT(refusal_of(zip_of({{"x/a", "1"}})), HasSubstr("without data.pkl"));
  EXPECT_THAT(refusal_of(zip_of({{"x/data.pkl", "N."}, {"y/data.pkl", "N."}})), HasSubstr("two data.pkl"));
  EXPECT_TRUE(parse(zip_of({{"data.pkl", "N."}})).is_none());
  EXPECT_THAT(refusal_of(zip_of({{"x/y/data.pkl", "N."}})), HasSubstr("without data.pkl"));
}

TEST(ZipContainer, OtherThanPlainContentIsRefused) {
  EXPECT_THAT(refusal_of(zip_of({{"x/data.pkl", "N."}, {"x/constants.pkl", ")."}})), HasSubstr("TorchScript"));
  EXPECT_THAT(refusal_of(zip_of({{"x/data.pkl", "N."}, {"x/code/a.py", ""}})), HasSubstr("TorchScript"));
  EXPECT_THAT(refusal_of(zip_of({{"x/data.pkl", "N."}, {"x/byteorder", "big"}})), HasSubstr("big-endian"));
  EXPECT_THAT(refusal_of(zip_of({{"x/data.pkl", "N."}, {"x/byteorder", "mid\n"}})), HasSubstr("unknown byte order"));
  EXPECT_THAT(refusal_of(zip_of({{"x/data.pkl", "N.N."}})), HasSubstr("goes on behind its end"));
}

TEST(LegacyContainer, WrongCountsAreRefused) {
  const std::string tensor = tensor_of(eight_floats, 0, {8}, {1}), elements(32, '\1');
  for (const int64_t numel : {int64_t{0}, int64_t{7}, int64_t{9}, int64_t{-1}, int64_t{1} << 31, INT64_MIN})
    EXPECT_THAT(refusal_of(legacy_with(tensor,
                                       "]\x8c\1"
                                       "0a",
                                       little_endian(numel) + elements)),
                HasSubstr("two sizes"));
  for (const std::string keys : {"]",
                                 "]\x8c\1"
                                 "1a",
                                 "](\x8c\1"
                                 "0\x8c\1"
                                 "0e",
                                 "]K\0a", "}", "N"})
    EXPECT_THAT(refusal_of(legacy_with(tensor, keys)), HasSubstr("x.ckpt: ")) << keys;
  const std::string two = "(" + eight_floats + storage_id("FloatStorage", "1", 8) + "t",
                    stored = little_endian(int64_t{8}) + elements;
  EXPECT_NO_THROW(parse(legacy_with(two,
                                    "](\x8c\1"
                                    "0\x8c\1"
                                    "1e",
                                    stored + stored)));
  EXPECT_THAT(refusal_of(legacy_with(two,
                                     "](\x8c\1"
                                     "0\x8c\1"
                                     "0e",
                                     stored + stored)),
              HasSubstr("lists other storages"));
  EXPECT_THAT(refusal_of(legacy_with(tensor) + "x"), HasSubstr("behind its last storage"));
}

TEST(LegacyContainer, BigEndianIsRefused) {
  EXPECT_THAT(refusal_of(legacy_with("N", "]", "", "}\x8c\15little_endian\x89s")), HasSubstr("big-endian"));
}

TEST(LegacyContainer, ViewsOfStoragesAreChecked) {
  const auto with_view = [](const std::string& key, int64_t offset, int64_t numel) {
    return storage_id("FloatStorage", "0", 8, "(\x8c\1" + key + number(offset) + number(numel) + "t");
  };
  EXPECT_EQ(parse(legacy_with(with_view("v", 2, 6))).as_tensor()->numel(), 6);
  for (const auto& [offset, numel] :
       std::vector<std::pair<int64_t, int64_t>>{{3, 6}, {9, 0}, {-1, 2}, {0, -1}, {huge, huge}, {0, INT64_MAX}})
    EXPECT_THAT(refusal_of(legacy_with(with_view("v", offset, numel))), HasSubstr("a view")) << offset << " " << numel;
  EXPECT_THAT(refusal_of(legacy_with("(" + with_view("v", 0, 4) + with_view("v", 1, 4) + "t")), HasSubstr("two ways"));
  EXPECT_THAT(refusal_of(legacy_with(tensor_of(with_view("v", 2, 6), 0, {7}, {1}))), HasSubstr("beyond the end"));
  EXPECT_THAT(refusal_of(legacy_with(storage_id("FloatStorage", "0", 8, "K\1"))), HasSubstr("a view"));
}

PickleValue checkpoint() {
  PickleValue state = PickleValue::ordered_dict();
  state.insert("gpt.sos", tensor_of<float>(DType::float32, {2, 2}, {0.1f, -0.0f, 3e38f, 1e-45f}));
  state.insert("scalar", tensor_of<double>(DType::float64, {}, {0.684364}));
  state.insert("empty", tensor_of<float>(DType::float32, {0, 3}, {}));
  state.insert("half", tensor_of<uint16_t>(DType::bfloat16, {2}, {0x3f80, 0xc000}));
  state.insert("tokens", tensor_of<uint8_t>(DType::uint8, {3}, {0, 15, 255}));
  state.insert("step", tensor_of<int64_t>(DType::int64, {1}, {INT64_MIN}));
  state.insert("mask", tensor_of<uint8_t>(DType::boolean, {2}, {0, 1}));
  const StoredTensor base = *tensor_of<float>(DType::float32, {6}, {0, 1, 2, 3, 4, 5}).as_tensor();
  state.insert("transposed", StoredTensor{base.storage, DType::float32, 0, {3, 2}, {1, 3}});
  state.insert("tail", StoredTensor{base.storage, DType::float32, 4, {2}, {1}});
  state.insert("again", *state.find("gpt.sos"));
  return PickleValue::dict(
      {{"epoch", 3},
       {"global_step", int64_t{1} << 40},
       {"smallest", INT64_MIN},
       {"pytorch-lightning_version", "2.0.0"},
       {"state_dict", state},
       {"hyper_parameters", PickleValue::dict({{"learning_rate", 3e-3},
                                               {"classify", false},
                                               {"pretrained", PickleValue()},
                                               {"betas", PickleValue::tuple({0.9, 0.999})}})},
       {"optimizer_states", PickleValue::list({PickleValue::dict(
                                {{"state", PickleValue::dict({{0, PickleValue::dict({{"step", 7}})}})}})})},
       {"text", "caf\xc3\xa9"},
       {"tuples", PickleValue::list({PickleValue::tuple(), PickleValue::tuple({1, 2, 3, 4})})}});
}

TEST(TorchFileWriter, WhatIsWrittenReadsBackBitForBit) {
  const TemporaryFolder folder;
  const PickleValue root = checkpoint();
  write_torch_file(folder / "a b.ckpt", root);
  const PickleValue read = read_torch_file(folder / "a b.ckpt");
  EXPECT_EQ(checkpoint_text(read), checkpoint_text(root));
  EXPECT_EQ(folder.names(), std::set<std::string>{"a b.ckpt"});
  const PickleValue& state = *read.find("state_dict");
  EXPECT_EQ(state.find("transposed")->as_tensor()->storage, state.find("tail")->as_tensor()->storage);
  EXPECT_EQ(state.find("transposed")->as_tensor()->strides, (std::vector<int64_t>{1, 3}));
}

TEST(TorchFileWriter, SameContentGivesTheSameBytes) {
  const TemporaryFolder folder, other;
  write_torch_file(folder / "last.ckpt", checkpoint());
  write_torch_file(other / "last.ckpt", checkpoint());
  EXPECT_EQ(file_text(folder / "last.ckpt"), file_text(other / "last.ckpt"));
}

TEST(TorchFileWriter, FailureLeavesThePreviousFile) {
  const TemporaryFolder folder;
  write_torch_file(folder / "last.ckpt", PickleValue::dict({{"epoch", 1}}));
  EXPECT_THROW(write_torch_file(folder / "last.ckpt", PickleValue::dict({{"bad", PickleValue::opaque("os.system")}})),
               Error);
  EXPECT_EQ(read_torch_file(folder / "last.ckpt").find("epoch")->as_int(), 1);
  EXPECT_EQ(folder.names(), std::set<std::string>{"last.ckpt"});
}

TEST(TorchFileWriter, PythonReadsItWithWeightsOnly) {
  const TemporaryFolder folder;
  const PickleValue root = checkpoint();
  write_torch_file(folder / "last.ckpt", root);
  std::ofstream(folder / "read.py") << R"(
import sys
try:
    import torch
except ImportError:
    sys.exit(77)
sys.path.insert(0, ')" IGPT_SOURCE R"(/tests/golden')
import make_golden_checkpoints as golden
for mmap in (False, True):
    content = torch.load('last.ckpt', weights_only=True, mmap=mmap)
    open(f'{mmap}.txt', 'w').write(''.join(line + '\n' for line in golden.lines(content)))
)";
  const auto run = [&](const std::string& python) {
    return std::system(("cd " + folder.path().string() + " && " + python + " read.py").c_str());
  };
  const std::string own = IGPT_SOURCE "/.venv/bin/python";
  const int status = run(fs::exists(own) ? own : "python3");
  if (WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127))
    GTEST_SKIP() << "without a Python that has torch";
  ASSERT_EQ(status, 0);
  EXPECT_EQ(file_text(folder / "False.txt"), checkpoint_text(root));
  EXPECT_EQ(file_text(folder / "True.txt"), checkpoint_text(root));
}

// A sparse legacy file of one storage of `numel` floats.
void write_sparse(const fs::path& path, int64_t numel) {
  const std::string head = legacy_with(storage_id("FloatStorage", "0", numel), "]\x8c\0010a", little_endian(numel));
  std::ofstream(path, std::ios::binary) << head;
  fs::resize_file(path, head.size() + 4 * static_cast<uint64_t>(numel));
}

TEST(TorchFile, TensorLargerThanTheMemoryIsRefused) {
  const TemporaryFolder folder;
  if (sanitized) GTEST_SKIP() << "sanitizers need the address space";
  write_sparse(folder / "a.ckpt", 1 << 28);
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{uint64_t{512} << 20, uint64_t{512} << 20};
    setrlimit(RLIMIT_AS, &limit);
    try {
      read_torch_file(folder / "a.ckpt").as_tensor()->storage->bytes();
    } catch (const InputError& error) {
      _exit(std::string_view(error.what()).find("fit into memory") != std::string_view::npos ? 7 : 8);
    }
    _exit(9);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(TorchFile, TensorsAreReadWhenTheyAreLookedAt) {
  const TemporaryFolder folder;
  write_sparse(folder / "a.ckpt", int64_t{1} << 30);
  expect_modest(64 << 20,
                [&] { EXPECT_EQ(read_torch_file(folder / "a.ckpt").as_tensor()->numel(), int64_t{1} << 30); });
  write_sparse(folder / "b.ckpt", 1000);
  const PickleValue root = read_torch_file(folder / "b.ckpt");
  fs::resize_file(folder / "b.ckpt", 4000);
  EXPECT_THAT(refusal([&] { root.as_tensor()->storage->bytes(); }), HasSubstr("became shorter"));
}

TEST(TorchFile, HugeFilesThatAreNoneAreRefusedAtOnce) {
  const TemporaryFolder folder;
  for (const std::string& start :
       {""s, "PK\3\4"s, zip_with(eight_floats), "\x80\2"s, legacy_with(eight_floats), "\x80\2X\xff\xff\xff\xff"s}) {
    std::ofstream(folder / "a.ckpt", std::ios::binary) << start;
    fs::resize_file(folder / "a.ckpt", uint64_t{4} << 30);
    expect_modest(64 << 20, [&] { refusal([&] { read_torch_file(folder / "a.ckpt"); }); });
  }
}

// Within 2 s, and with no more memory than twice the file plus 64 MiB.
TEST(TorchFile, LargeHostileFilesCostLittle) {
  const size_t size = 30 << 20;
  const std::string zeros(size, '\0');
  for (const std::string& bytes :
       {zip_of({{"x/data.pkl", repeated("]", size)}}), zip_of({{"x/data.pkl", repeated("N", size)}}),
        legacy_with(repeated(")", size)), legacy_with("N", repeated("(", size)),
        zip_of({{"x/data.pkl", "N."}, {"x/data/0", zeros}}), "PK\3\4" + zeros, "\x80\2" + zeros,
        repeated("PK\5\6", size / 4), repeated("PK\3\4", size / 4), "PK\3\4" + repeated("PK\5\6", size / 4)})
    expect_modest(2 * bytes.size() + (64 << 20), [&] {
      try {
        parse(bytes);
      } catch (const InputError&) {
      }
    });
}

}  // namespace
}  // namespace igpt::formats
