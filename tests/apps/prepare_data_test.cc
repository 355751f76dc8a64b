#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "apps/trained_model.h"
#include "data/http_server.h"
#include "igpt/data/dataset_folder.h"
#include "igpt/data/sha256.h"
#include "igpt/formats/npy.h"
#include "picture_files.h"
#include "process.h"
#include "sanitized.h"
#include "temporary_folder.h"

namespace igpt {
namespace {

namespace fs = std::filesystem;
using igpt::testing::Ending;
using igpt::testing::HttpServer;
using igpt::testing::Process;
using igpt::testing::program;
using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The real files, where this machine has them.
const fs::path kFashion = "/usr/share/datasets/fashion-mnist";
const fs::path kMnist = fs::path(IGPT_SOURCE) / "../shared/data/mnist";

Ending prepare_data(const TemporaryFolder& folder, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program("prepare_data"));
  return igpt::testing::run(arguments, {{"no_proxy", "127.0.0.1"}}, folder.path());
}

bool is_one_line(const std::string& text) {
  return !text.empty() && text.find('\n') == text.size() - 1;
}

TEST(PrepareData, HelpAndVersionAreResults) {
  TemporaryFolder folder;
  for (const char* option : {"--help", "-h"}) {
    const Ending help = prepare_data(folder, {option});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_THAT(help.out,
                AllOf(HasSubstr("--fashion"), HasSubstr("--data_dir"), HasSubstr("--dtype"), HasSubstr("--source"),
                      HasSubstr("--force"), HasSubstr("mnist|fashion|cifar10|folder")));
    EXPECT_THAT(help.err, IsEmpty());
  }
  EXPECT_THAT(prepare_data(folder, {"--version"}).out, HasSubstr("igpt "));
  EXPECT_TRUE(folder.names().empty());
}

TEST(PrepareData, UsageErrorsAreOneLineAndExit2) {
  TemporaryFolder folder;
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--fashoin"}, "--fashion"},
      {{"--dataset", "cifar"}, "mnist, fashion, cifar10 or folder"},
      {{"--dataset", "folder"}, "needs --source"},
      {{"--num_pixels", "32"}, "the images of MNIST keep their size"},
      {{"--dtype", "float32"}, "auto or int64"},
      {{"--source", "ftp://host/x"}, "a folder or an http or https URL"},
      {{"--fashion", "--dataset", "mnist"}, "give one of the two"},
      {{"--data_dir", ""}, "--data_dir"},
      {{"--palette", ""}, "--palette \"\": is empty"},
      {{"--num_vocab", "257"}, "there are 256 greys"},
      {{"--num_vocab", "1"}, "2 to 32768"},
      {{"--palette", "kmeans", "--num_vocab", "32769"}, "2 to 32768"},
      {{"--data_dir"}, "--data_dir"},
      {{"stray"}, "stray"},
  };
  for (const auto& [arguments, words] : cases) {
    const Ending ending = prepare_data(folder, arguments);
    EXPECT_EQ(ending.exit_code, 2) << words;
    EXPECT_THAT(ending.err, HasSubstr(words));
    EXPECT_TRUE(is_one_line(ending.err)) << ending.err;
    EXPECT_THAT(ending.out, IsEmpty());
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(PrepareData, FailedWorkIsOneLineAndExit1) {
  TemporaryFolder folder;
  igpt::testing::write_bytes(folder / "file", "");
  fs::create_directory(folder / "empty");
  for (const auto& [arguments, words] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--source", "missing"}, "missing: no such folder"},
           {{"--source", "empty"}, "train-images-idx3-ubyte.gz: no such file"},
           {{"--source", "http://127.0.0.1:1", "--data_dir", "file", "-q"}, "file"},
           {{"--source", "http://127.0.0.1:1", "-q"}, "127.0.0.1"}}) {
    const Ending ending = prepare_data(folder, arguments);
    EXPECT_EQ(ending.exit_code, 1) << words;
    EXPECT_THAT(ending.err, HasSubstr(words));
    EXPECT_TRUE(is_one_line(ending.err)) << ending.err;
    EXPECT_THAT(ending.out, IsEmpty());
  }
}

TEST(PrepareData, FashionFromTheDistributionsPackage) {
  if (!fs::exists(kFashion)) GTEST_SKIP() << "the package dataset-fashion-mnist is not installed";
  TemporaryFolder folder;
  const Ending first = prepare_data(folder, {"--fashion"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.out,
              AllOf(HasSubstr("Fashion-MNIST is in data\n"), HasSubstr("data/train_x.npy  uint8  60000 x 28 x 28\n"),
                    HasSubstr("data/test_y.npy  uint8  10000\n")));
  const auto written = fs::last_write_time(folder / "data/train_x.npy");
  const Ending again = prepare_data(folder, {"--dataset", "fashion"});
  EXPECT_EQ(again.exit_code, 0);
  EXPECT_THAT(again.out, HasSubstr("Fashion-MNIST is already in data\n"));
  EXPECT_EQ(fs::last_write_time(folder / "data/train_x.npy"), written);
  EXPECT_EQ(prepare_data(folder, {"--fashion", "--force"}).exit_code, 0);
  EXPECT_NE(fs::last_write_time(folder / "data/train_x.npy"), written);
}

TEST(PrepareData, PicturesOfAFolderAndWhatCannotBeRead) {
  TemporaryFolder folder;
  for (const char* name : {"cat", "dog"}) fs::create_directories(folder / "pictures" / name);
  for (int64_t i = 0; i < 120; ++i)
    igpt::testing::write_bytes(
        folder / "pictures" / (i % 2 ? "cat" : "dog") / (std::to_string(i) + (i % 3 ? ".png" : ".jpeg")),
        i % 3 ? igpt::testing::as_png(igpt::testing::colourful(20 + i, 30, 3))
              : igpt::testing::as_jpeg(igpt::testing::colourful(40, 20 + i, 1)));
  igpt::testing::write_bytes(folder / "pictures/cat/bad.png", "not a picture");
  const std::vector<std::string> arguments = {"--dataset",    "folder", "--source", "pictures",
                                              "--num_pixels", "16",     "--seed",   "3"};
  const Ending first = prepare_data(folder, arguments);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.out,
              AllOf(HasSubstr("The set of pictures is in data\n"),
                    HasSubstr("data/train_x.npy  uint8  108 x 16 x 16\n"), HasSubstr("data/test_y.npy  uint8  12\n")));
  EXPECT_THAT(first.err, AllOf(HasSubstr("reading 121 pictures of 2 classes from pictures"),
                               HasSubstr("left out: pictures/cat/bad.png: is neither a PNG nor a JPEG")));
  EXPECT_THAT(data::read_dataset_info(folder / "data")->classes, ::testing::ElementsAre("cat", "dog"));
  EXPECT_THAT(prepare_data(folder, arguments).out, HasSubstr("The set of pictures is already in data\n"));
  igpt::testing::write_bytes(folder / "pictures/cat/worse.png", "");
  const Ending refused = prepare_data(folder, {"--dataset", "folder", "--source", "pictures", "-q"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("pictures: 2 of 122 pictures cannot be read, more than 1 %"));
  EXPECT_TRUE(is_one_line(refused.err)) << refused.err;
  EXPECT_THAT(prepare_data(folder, arguments).err, HasSubstr("2 of 122"));  // data/ is that of other pictures
}

TEST(PrepareData, PalettesOfKMeansAndOfFiles) {
  if (!fs::exists(kFashion)) GTEST_SKIP() << "the package dataset-fashion-mnist is not installed";
  TemporaryFolder folder;
  const Ending found = prepare_data(folder, {"--fashion", "--palette", "kmeans", "--num_vocab", "12", "--seed", "1"});
  ASSERT_EQ(found.exit_code, 0) << found.err;
  EXPECT_THAT(found.err, HasSubstr("k-means: looking for 12 greys, seed 1"));
  const auto info = data::read_dataset_info(folder / "data");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->palette.size(), 12);
  EXPECT_EQ(info->kmeans_seed, 1);
  const std::string again =
      prepare_data(folder, {"--fashion", "--palette", "kmeans", "--num_vocab", "12", "--seed", "1"}).out;
  EXPECT_THAT(again, HasSubstr("already in data"));

  formats::write_npy(folder / "p.npy", {12, 1}, info->palette.colours);
  const Ending of_file = prepare_data(folder, {"--fashion", "--palette", "p.npy", "--data_dir", "other"});
  ASSERT_EQ(of_file.exit_code, 0) << of_file.err;
  EXPECT_THAT(of_file.err, HasSubstr("p.npy: a palette of 12 greys, bytes"));
  EXPECT_EQ(read_bytes(folder / "other/train_x.npy"), read_bytes(folder / "data/train_x.npy"));
}

TEST(PrepareData, PalettesThatAreNoneWriteNothing) {
  TemporaryFolder folder;
  formats::write_npy(folder / "equal.npy", {3, 1}, std::vector<uint8_t>{7, 8, 7});
  formats::write_npy(folder / "pairs.npy", {2, 2}, std::vector<uint8_t>{1, 2, 3, 4});
  formats::write_npy(folder / "rgb.npy", {2, 3}, std::vector<uint8_t>{1, 2, 3, 4, 5, 6});
  formats::write_npy(folder / "two.npy", {2, 1}, std::vector<double>{0.5, NAN});
  for (const auto& [arguments, words] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--palette", "equal.npy"}, "equal.npy: its colours 0 and 2 are equal"},
           {{"--palette", "pairs.npy"}, "pairs.npy: has the shape 2 x 2"},
           {{"--palette", "rgb.npy"}, "rgb.npy: its palette is RGB, and the images of MNIST are grey"},
           {{"--palette", "two.npy"}, "two.npy: holds nan in colour 1"},
           {{"--palette", "missing.npy"}, "missing.npy: no such file"}}) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), {"--source", "http://127.0.0.1:1", "-q"});
    const Ending ending = prepare_data(folder, all);
    EXPECT_EQ(ending.exit_code, 1) << words;
    EXPECT_THAT(ending.err, HasSubstr(words));
    EXPECT_TRUE(is_one_line(ending.err)) << ending.err;
    EXPECT_FALSE(fs::exists(folder / "data"));
  }
  const Ending other = prepare_data(folder, {"--palette", "rgb.npy", "--num_vocab", "3", "-q"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("--num_vocab 3: the palette of rgb.npy has 2 colours"));
}

TEST(PrepareData, MnistFromAFolder) {
  if (!fs::exists(kMnist)) GTEST_SKIP() << "no MNIST beside the source";
  TemporaryFolder folder;
  const Ending ending =
      prepare_data(folder, {"--source", kMnist.string(), "--dtype", "int64", "--data_dir", "elsewhere/data"});
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_THAT(ending.out, HasSubstr("elsewhere/data/test_x.npy  int64  10000 x 28 x 28\n"));
  EXPECT_EQ(fs::file_size(folder / "elsewhere/data/test_y.npy"), 128u + 10'000 * 8);
}

TEST(PrepareData, MnistGivenAsFashionMnistIsNamed) {
  if (!fs::exists(kMnist)) GTEST_SKIP() << "no MNIST beside the source";
  TemporaryFolder folder;
  const Ending ending = prepare_data(folder, {"--fashion", "--source", kMnist.string(), "-q"});
  EXPECT_EQ(ending.exit_code, 1);
  EXPECT_THAT(ending.err,
              HasSubstr("is train-images-idx3-ubyte of MNIST, not train-images-idx3-ubyte of Fashion-MNIST; for "
                        "MNIST type: prepare_data --dataset mnist --source " +
                        kMnist.string()));
  EXPECT_TRUE(is_one_line(ending.err)) << ending.err;
  EXPECT_FALSE(fs::exists(folder / "data/train_x.npy"));
}

TEST(PrepareData, WrongBytesOfAServerAreRefused) {
  const HttpServer server([](const std::string&) { return igpt::testing::ok("<html>Log in to the network</html>"); });
  TemporaryFolder folder;
  const Ending ending = prepare_data(folder, {"--source", server.url(), "-q"});
  EXPECT_EQ(ending.exit_code, 1);
  EXPECT_THAT(ending.err, HasSubstr("serves wrong bytes"));
  EXPECT_FALSE(fs::exists(folder / "data/train_x.npy"));
}

class PrepareDataSignal : public ::testing::TestWithParam<int> {};

TEST_P(PrepareDataSignal, StopsTheDownloadAndKeepsWhatArrived) {
  const HttpServer server([](const std::string&) {
    return "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + std::string(50'000, 'x') +
           std::string(HttpServer::kHold);
  });
  TemporaryFolder folder;
  Process process({program("prepare_data"), "--source", server.url()}, {{"no_proxy", "127.0.0.1"}}, folder.path());
  const fs::path part = folder / "data/raw/mnist/train-images-idx3-ubyte.gz.part";
  while (process.running() && (!fs::exists(part) || fs::file_size(part) < 50'000))
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  process.signal(GetParam());
  const Ending ending = process.wait(std::chrono::seconds(10));
  EXPECT_EQ(ending.exit_code, 128 + GetParam()) << ending.err;
  EXPECT_EQ(fs::file_size(part), 50'000u);
}

INSTANTIATE_TEST_SUITE_P(Signals, PrepareDataSignal,
                         ::testing::Values(SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU));

// How many colours the palette of the set in data/ has, all of whose files have the bytes that dataset.yaml lists; 0
// where one has others.
int64_t colours_in(const fs::path& folder) {
  const data::ReadLock lock({folder / "dataset.yaml"});
  const auto info = data::read_dataset_info(folder);
  if (!info || info->files.size() != 4) return 0;
  for (const auto& file : info->files)
    if (data::sha256(read_bytes(folder / file.name)) != file.sha256) return 0;
  return info->palette.size();
}

// Killed before each rename: of a file that is complete, of the folder with all of them, of each on its way to its
// place.
TEST(PrepareData, KilledAtAnyMomentLeavesTheOldOrTheNewSet) {
  if (!fs::exists(kFashion)) GTEST_SKIP() << "needs Debian's dataset-fashion-mnist";
  if (sanitized) GTEST_SKIP() << "a sanitizer wants to be loaded first";
  TemporaryFolder folder;
  igpt::testing::write_random_checkpoint(folder / "four.ckpt", /*num_vocab=*/4);
  int64_t present = 16;
  // Makes the set with the other palette; how the program ended.
  const auto prepare = [&](int64_t colours, const std::string& killed_at) {
    std::vector<std::string> arguments{program("prepare_data"), "--fashion"};
    if (colours == 4) arguments.insert(arguments.end(), {"--palette", "four.ckpt"});
    std::map<std::string, std::string> environment;
    if (!killed_at.empty()) environment = {{"LD_PRELOAD", IGPT_FAILING_IO}, {"IGPT_FAIL", killed_at}};
    const Ending ending = igpt::testing::run(arguments, environment, folder.path());
    present = colours_in(folder / "data");
    EXPECT_THAT(present, ::testing::AnyOf(4, 16)) << "killed at " << killed_at;
    return ending;
  };
  ASSERT_EQ(prepare(16, "").exit_code, 0);
  int kills = 0;
  for (;; ++kills) {
    const auto ending = prepare(20 - present, "rename:data/.:0:" + std::to_string(kills));
    if (ending.exit_code == 0) break;
    ASSERT_EQ(ending.signal, SIGKILL) << ending.err;
  }
  EXPECT_GE(kills, 5 + 1 + 5);
  EXPECT_EQ(folder.names("data").count(".incoming") + folder.names("data").count(".ready"), 0u);
}

}  // namespace
}  // namespace igpt
