#include "igpt/data/prepare.h"

#include "igpt/data/image_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <thread>

#include "compressed.h"
#include "data/http_server.h"
#include "idx_header.h"
#include "igpt/data/dataset_folder.h"
#include "igpt/data/kmeans.h"
#include "igpt/data/sha256.h"
#include "igpt/data/split.h"
#include "igpt/error.h"
#include "igpt/formats/idx.h"
#include "igpt/formats/npy.h"
#include "temporary_folder.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using igpt::testing::gzip;
using igpt::testing::HttpServer;
using igpt::testing::ok;
using igpt::testing::range_start;
using igpt::testing::read_bytes;
using igpt::testing::serve_file;
using igpt::testing::status;
using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// A dataset of 60 + 20 images of 8 x 8 pixels whose bytes depend on `seed`.
struct Fake {
  DatasetSource source;
  std::array<std::string, 4> raw;

  explicit Fake(uint32_t seed) {
    source.name = "fake" + std::to_string(seed);
    source.title = "Fake " + std::to_string(seed);
    source.classes = {"a", "b", "c"};
    const std::array<std::vector<int64_t>, 4> shapes = {{{60, 8, 8}, {60}, {20, 8, 8}, {20}}};
    for (size_t i = 0; i < 4; ++i) {
      raw[i] = igpt::testing::idx_header(shapes[i]);
      for (int64_t k = 0; k < shapes[i][0] * (shapes[i].size() == 3 ? 64 : 1); ++k) {
        seed = seed * 1664525 + 1013904223;
        raw[i] += static_cast<char>(shapes[i].size() == 3 ? seed >> 24 : (seed >> 24) % 3);
      }
      const char* names[] = {"train-images", "train-labels", "test-images", "test-labels"};
      source.files[i] = {names[i], raw[i].size(), sha256(raw[i])};
    }
  }

  void write_to(const fs::path& folder, bool compressed = true) const {
    fs::create_directories(folder);
    for (size_t i = 0; i < 4; ++i)
      write_bytes(folder / (source.files[i].name + (compressed ? ".gz" : "")), compressed ? gzip(raw[i]) : raw[i]);
  }

  // The file that a request names; empty for any other.
  std::string requested(const std::string& request) const {
    for (size_t i = 0; i < 4; ++i)
      if (request.starts_with("GET /" + source.files[i].name + ".gz ")) return gzip(raw[i]);
    return "";
  }
};

// The .gz file of a dataset with one value changed, correct except for its SHA-256.
std::string one_byte_changed(const Fake& fake, const std::string& name) {
  for (size_t i = 0; i < 4; ++i) {
    if (fake.source.files[i].name + ".gz" != name) continue;
    std::string bytes = fake.raw[i];
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    return gzip(bytes);
  }
  return "";
}

class Prepare : public ::testing::Test {
 protected:
  Prepare() {
    setenv("no_proxy", "127.0.0.1", 1);
    options_.data_dir = folder_ / "data";
    options_.download.connect_timeout = std::chrono::milliseconds(2000);
    options_.download.stall_timeout = std::chrono::seconds(1);
    options_.note = [this](const std::string& line) { notes_ += line + "\n"; };
    options_.made_by = "test";
  }

  PrepareResult prepare(const Fake& fake) { return data::prepare(fake.source, options_); }

  // data/ holds exactly this dataset.
  void expect_holds(const Fake& fake) const {
    for (size_t i = 0; i < 4; i += 2) {
      const std::string prefix = i == 0 ? "train" : "test";
      const Split split = read_split(options_.data_dir / (prefix + "_x.npy"), options_.data_dir / (prefix + "_y.npy"));
      const auto images = formats::parse_idx(fake.raw[i], ""), labels = formats::parse_idx(fake.raw[i + 1], "");
      const auto& tokens = std::get<std::vector<uint8_t>>(split.tokens);
      ASSERT_EQ(tokens.size(), images.values.size());
      for (size_t k = 0; k < tokens.size(); ++k) ASSERT_EQ(tokens[k], images.values[k] / 17) << k;
      EXPECT_TRUE(std::ranges::equal(split.labels, labels.values));
    }
    EXPECT_EQ(read_dataset_info(options_.data_dir)->dataset, fake.source.name);
  }

  void expect_nothing_written() const {
    for (const char* name : {"train_x.npy", "train_y.npy", "test_x.npy", "test_y.npy", "dataset.yaml", ".ready"})
      EXPECT_FALSE(fs::exists(options_.data_dir / name)) << name;
  }

  TemporaryFolder folder_;
  PrepareOptions options_;
  std::string notes_;
  const Fake fake_ = Fake(1), other_ = Fake(2);
};

TEST_F(Prepare, MakesTokensFromAFolder) {
  for (const bool compressed : {true, false}) {
    fake_.write_to(folder_ / "source", compressed);
    options_.source = (folder_ / "source").string();
    options_.force = true;
    const PrepareResult result = prepare(fake_);
    EXPECT_FALSE(result.already_there);
    ASSERT_EQ(result.files.size(), 4u);
    EXPECT_EQ(result.files[0].path, options_.data_dir / "train_x.npy");
    EXPECT_EQ(result.files[0].dtype, "uint8");
    EXPECT_THAT(result.files[0].shape, ElementsAre(60, 8, 8));
    EXPECT_THAT(result.files[3].shape, ElementsAre(20));
    expect_holds(fake_);
    const auto info = read_dataset_info(options_.data_dir);
    EXPECT_EQ(info->image_size, 8);
    EXPECT_EQ(info->raw[2].sha256, fake_.source.files[2].sha256);
    EXPECT_EQ(info->files[1].sha256, sha256(read_bytes(options_.data_dir / "train_y.npy")));
    fs::remove_all(folder_ / "source");
  }
}

TEST_F(Prepare, ReadsTheGoodOneOfTwoFilesOfAName) {
  for (const bool good_is_compressed : {true, false}) {
    fake_.write_to(folder_ / "source", good_is_compressed);
    other_.write_to(folder_ / "source", !good_is_compressed);
    options_.source = (folder_ / "source").string();
    options_.force = true;
    prepare(fake_);
    expect_holds(fake_);
    fs::remove_all(folder_ / "source");
  }
}

TEST_F(Prepare, ImagesAsInt64OnRequest) {
  fake_.write_to(folder_ / "source");
  options_.source = (folder_ / "source").string();
  options_.dtype = "int64";
  EXPECT_EQ(prepare(fake_).files[0].dtype, "int64");
  expect_holds(fake_);
  options_.dtype = "auto";
  EXPECT_FALSE(prepare(fake_).already_there) << "another type is another set of files";
  EXPECT_EQ(formats::read_npy_header(options_.data_dir / "test_y.npy").dtype, formats::DType::uint8);
}

TEST_F(Prepare, WhatIsThereIsNotMadeAgain) {
  fake_.write_to(folder_ / "source");
  options_.source = (folder_ / "source").string();
  prepare(fake_);
  fs::remove_all(folder_ / "source");
  const PrepareResult again = prepare(fake_);
  EXPECT_TRUE(again.already_there);
  EXPECT_EQ(again.files.size(), 4u);
  options_.force = true;
  EXPECT_THROW(prepare(fake_), InputError) << "made anew, which needs the source";
  expect_holds(fake_);
}

TEST_F(Prepare, ChangedFilesAreMadeAgain) {
  fake_.write_to(folder_ / "source");
  options_.source = (folder_ / "source").string();
  const auto spoil = [&](const char* name, const std::function<std::string(std::string)>& change) {
    prepare(fake_);
    const fs::path path = options_.data_dir / name;
    write_bytes(path, change(read_bytes(path)));
    EXPECT_FALSE(prepare(fake_).already_there) << name;
    expect_holds(fake_);
  };
  spoil("train_x.npy", [](std::string bytes) { return bytes.back() ^= 1, bytes; });
  spoil("test_y.npy", [](std::string bytes) { return bytes.substr(0, 100); });
  spoil("dataset.yaml", [](std::string) { return "]"; });
  spoil("dataset.yaml", [](std::string text) { return text.replace(text.find("255]"), 4, "254]"); });
  prepare(fake_);
  fs::remove(options_.data_dir / "test_x.npy");
  EXPECT_FALSE(prepare(fake_).already_there);
}

TEST_F(Prepare, FilesOfOthersAreReplacedOnlyByForce) {
  fake_.write_to(folder_ / "source");
  options_.source = (folder_ / "source").string();
  fs::create_directories(options_.data_dir);
  for (const char* name : {"train_x.npy", "test_y.npy"}) {
    write_bytes(options_.data_dir / name, "mine");
    EXPECT_THAT([&] { prepare(fake_); },
                ThrowsMessage<InputError>(AllOf(HasSubstr(name), HasSubstr("was not written by prepare_data"))));
    EXPECT_EQ(read_bytes(options_.data_dir / name), "mine");
    fs::remove(options_.data_dir / name);
  }
  write_bytes(options_.data_dir / ".lock", "");  // as a start leaves it that fails
  write_bytes(options_.data_dir / "train_x.npy", "mine");
  EXPECT_THROW(prepare(fake_), InputError);
  options_.force = true;
  prepare(fake_);
  expect_holds(fake_);

  options_.force = false;
  for (const char* name : {"train_x.npy", "train_y.npy", "test_x.npy", "test_y.npy"})
    write_bytes(options_.data_dir / name, "mine");
  EXPECT_THAT([&] { prepare(fake_); },
              ThrowsMessage<InputError>(HasSubstr("nor were the other files that dataset.yaml describes")));
  EXPECT_EQ(read_bytes(options_.data_dir / "test_y.npy"), "mine");
}

TEST_F(Prepare, AnotherDatasetReplacesAll) {
  fake_.write_to(folder_ / "one");
  other_.write_to(folder_ / "two");
  options_.source = (folder_ / "one").string();
  prepare(fake_);
  options_.source = (folder_ / "two").string();
  prepare(other_);
  expect_holds(other_);
  EXPECT_THAT(notes_, HasSubstr("replacing fake1, 16 greys, in "));
}

TEST_F(Prepare, WrongBytesNeverEnterData) {
  other_.write_to(folder_ / "good");
  options_.source = (folder_ / "good").string();
  prepare(other_);
  for (const char* file : {"train-images.gz", "train-labels.gz", "test-images.gz", "test-labels.gz"}) {
    fake_.write_to(folder_ / "bad");
    write_bytes(folder_ / "bad" / file, gzip("wrong"));
    options_.source = (folder_ / "bad").string();
    EXPECT_THAT([&] { prepare(fake_); }, ThrowsMessage<InputError>(HasSubstr(file)));
    expect_holds(other_);
    write_bytes(folder_ / "bad" / file, "not even gzip");
    EXPECT_THROW(prepare(fake_), InputError);
    write_bytes(folder_ / "bad" / file, one_byte_changed(fake_, file));
    EXPECT_THAT([&] { prepare(fake_); }, ThrowsMessage<InputError>(HasSubstr("its SHA-256 is another one")));
    expect_holds(other_);
    fs::remove(folder_ / "bad" / file);
    EXPECT_THAT([&] { prepare(fake_); }, ThrowsMessage<InputError>(AllOf(HasSubstr(file), HasSubstr("no such file"))));
  }
  expect_holds(other_);
}

// As in Kaggle's archives: a dot for a hyphen, or each file in a folder of its name.
TEST_F(Prepare, FindsTheFilesUnderTheirOtherNames) {
  Fake idx = fake_;
  const char* names[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                         "t10k-labels-idx1-ubyte"};
  for (size_t i = 0; i < 4; ++i) idx.source.files[i].name = names[i];
  const auto dotted = [](std::string name) { return name.replace(name.find("-idx"), 1, "."); };
  const std::function<std::string(const std::string&)> places[] = {
      [&](const std::string& name) { return dotted(name); }, [&](const std::string& name) { return name + "/" + name; },
      [&](const std::string& name) { return name + "/" + dotted(name); },
      [&](const std::string& name) { return dotted(name) + "/" + dotted(name); }};
  for (const auto& place : places)
    for (const bool compressed : {false, true})
      for (const char* way : {"source", "distribution", "data/raw/fake1"}) {
        for (size_t i = 0; i < 4; ++i) {
          const fs::path path = folder_ / way / (place(names[i]) + (compressed ? ".gz" : ""));
          fs::create_directories(path.parent_path());
          write_bytes(path, compressed ? gzip(idx.raw[i]) : idx.raw[i]);
        }
        options_.source = way == std::string("source") ? (folder_ / way).string() : "";
        idx.source.folders = {folder_ / "distribution"};
        EXPECT_FALSE(prepare(idx).already_there) << way << "/" << place(names[0]);
        expect_holds(idx);
        fs::remove_all(folder_ / way);
        fs::remove_all(folder_ / "data");
      }
}

TEST_F(Prepare, APaletteOfColoursIsRefusedWithItsFile) {
  fake_.write_to(folder_ / "source");
  options_.source = (folder_ / "source").string();
  options_.palette = Palette::of_centroids({0, 0, 0, 1, 1, 1}, 3);
  options_.palette_file = "rgb.ckpt";
  EXPECT_THAT([&] { prepare(fake_); },
              ThrowsMessage<InputError>("rgb.ckpt: its palette is RGB, and the images of Fake 1 are grey; take one of "
                                        "greys"));
  options_.source = (folder_ / "source/train-images.gz").string();
  options_.palette = Palette::grey(16);
  EXPECT_THAT([&] { prepare(fake_); },
              ThrowsMessage<InputError>(HasSubstr("is a file; --source takes the folder that holds it")));
}

// Colour images in memory: squares of a few colours with some noise.
RawImages colour_images(int64_t train = 40, int64_t test = 10) {
  uint32_t seed = 5;
  RawImages images{.side = 6, .channels = 3};
  const auto fill = [&](RawImages::Part& part, int64_t count) {
    for (int64_t n = 0; n < count; ++n) {
      part.labels.push_back(n % 3);
      for (int i = 0; i < 36 * 3; ++i) {
        seed = seed * 1664525 + 1013904223;
        part.pixels.push_back(static_cast<uint8_t>((n % 3 == i % 3 ? 200 : 40) + (seed >> 24) % 32));
      }
    }
  };
  fill(images.train, train);
  fill(images.test, test);
  return images;
}

// Images that a test has made.
class MadeImages final : public ImageSource {
 public:
  MadeImages(DatasetInfo about, RawImages images) : about_(std::move(about)), images_(std::move(images)) {}

  std::string name() const override { return about_.dataset; }
  std::vector<std::string> classes() const override { return about_.classes; }
  std::vector<DatasetInfo::File> sums() override { return about_.raw; }
  RawImages read() override { return images_; }

 private:
  DatasetInfo about_;
  RawImages images_;
};

PrepareResult prepare_images(const DatasetInfo& about, const RawImages& images, const PrepareOptions& options) {
  MadeImages source(about, images);
  return data::prepare(source, options);
}

TEST_F(Prepare, ColourImagesGetThePaletteThatKMeansFinds) {
  const RawImages images = colour_images();
  DatasetInfo about;
  about.dataset = "squares";
  about.classes = {"red", "green", "blue"};
  options_.kmeans = true;
  options_.seed = 3;
  for (const int64_t vocab : {20, 300}) {
    options_.num_vocab = vocab;
    const auto result = prepare_images(about, images, options_);
    EXPECT_FALSE(result.already_there);
    EXPECT_EQ(result.files[0].dtype, vocab > 256 ? "uint16" : "uint8");
    EXPECT_EQ(result.files[1].dtype, "uint8");
    const auto split =
        read_split(options_.data_dir / "train_x.npy", options_.data_dir / "train_y.npy", {.num_vocab = vocab});
    ASSERT_TRUE(split.info);
    EXPECT_EQ(split.info->palette, cluster(images.train.pixels, 3, {.num_vocab = vocab, .seed = 3}));
    EXPECT_EQ(split.info->kmeans_seed, 3);
    EXPECT_EQ(split.info->classes, about.classes);
    EXPECT_EQ(split.labels, images.train.labels);
    std::vector<uint16_t> expected(images.train.pixels.size() / 3);
    encode(split.info->palette, images.train.pixels, expected);
    std::visit([&](const auto& tokens) { EXPECT_TRUE(std::ranges::equal(tokens, expected)); }, split.tokens);
    EXPECT_TRUE(prepare_images(about, images, options_).already_there);
  }
  options_.seed = 4;
  EXPECT_FALSE(prepare_images(about, images, options_).already_there);
  options_.dtype = "int64";
  EXPECT_EQ(prepare_images(about, images, options_).files[0].dtype, "int64");
  const auto wide = formats::read_npy<int16_t>(options_.data_dir / "test_x.npy");
  std::vector<uint16_t> expected(images.test.pixels.size() / 3);
  encode(read_dataset_info(options_.data_dir)->palette, images.test.pixels, expected);
  EXPECT_TRUE(std::ranges::equal(wide.values, expected));
}

TEST_F(Prepare, ColourImagesBecomeGreyInAGreyPalette) {
  const RawImages images = colour_images();
  std::string notes;
  options_.note = [&](const std::string& line) { notes += line + "\n"; };
  prepare_images({}, images, options_);
  EXPECT_THAT(notes, HasSubstr("--palette kmeans keeps their colours"));
  const auto tokens = formats::read_npy<uint8_t>(options_.data_dir / "train_x.npy");
  for (size_t i = 0; i < tokens.values.size(); ++i) {
    const uint8_t* rgb = &images.train.pixels[3 * i];
    const double luma = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    ASSERT_NEAR(tokens.values[i], (luma - 8) / 17, 0.54) << i;
  }
}

TEST_F(Prepare, KMeansOfGreyImagesFindsGreys) {
  fake_.write_to(folder_ / "source");
  options_.source = (folder_ / "source").string();
  options_.kmeans = true;
  prepare(fake_);
  const auto info = read_dataset_info(options_.data_dir);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->palette.size(), 16);
  EXPECT_EQ(info->palette.channels, 1);
  EXPECT_TRUE(prepare(fake_).already_there);
  options_.num_vocab = 12;
  EXPECT_FALSE(prepare(fake_).already_there);
  options_.kmeans = false;
  EXPECT_FALSE(prepare(fake_).already_there);
}

// Centroids may lie between the bytes, so that there may be more greys than bytes.
TEST_F(Prepare, MoreThan256GreysTakeTwoBytes) {
  fake_.write_to(folder_ / "source");
  options_.source = (folder_ / "source").string();
  std::vector<float> centroids;
  for (int k = 0; k < 600; ++k) centroids.push_back(static_cast<float>(k) / 599);
  options_.palette = Palette::of_centroids(centroids, 1);
  EXPECT_EQ(prepare(fake_).files[0].dtype, "uint16");
  const auto tokens = formats::read_npy<int16_t>(options_.data_dir / "test_x.npy");
  const auto images = formats::parse_idx(fake_.raw[2], "");
  ASSERT_EQ(tokens.values.size(), images.values.size());
  for (size_t i = 0; i < tokens.values.size(); ++i)
    ASSERT_NEAR(tokens.values[i], images.values[i] / 255.0 * 599, 0.51) << i;
  EXPECT_TRUE(prepare(fake_).already_there);
}

TEST_F(Prepare, TooFewColoursChangeNothing) {
  RawImages images = colour_images();
  prepare_images({}, images, options_);
  const std::string before = read_bytes(options_.data_dir / "dataset.yaml");
  options_.kmeans = true;
  options_.num_vocab = 5000;
  EXPECT_THAT([&] { prepare_images({}, images, options_); },
              ThrowsMessage<InputError>(HasSubstr("a palette of 5000 colours is not possible: the images have 1")));
  EXPECT_EQ(read_bytes(options_.data_dir / "dataset.yaml"), before);
  images.train.pixels.pop_back();
  EXPECT_THROW(prepare_images({}, images, options_), InputError);
}

// The callback sees a stop signal in every phase of the work.
TEST_F(Prepare, AStopWhileItConvertsKeepsTheOldSet) {
  other_.write_to(folder_ / "other");
  options_.source = (folder_ / "other").string();
  prepare(other_);
  fake_.write_to(folder_ / "source");
  options_.source = (folder_ / "source").string();
  int stops = 0;
  for (bool stopped = true; stopped; stops += stopped) {
    std::atomic<int> calls = 0;
    options_.progress = [&](const std::string&, uint64_t, uint64_t) {
      if (calls++ >= stops) throw Interrupted(SIGUSR1);
    };
    try {
      prepare(fake_);
      stopped = false;
    } catch (const Interrupted&) {
      options_.progress = {};
      expect_holds(other_);
      EXPECT_FALSE(fs::exists(options_.data_dir / ".incoming"));
    }
  }
  EXPECT_GT(stops, 4);
  expect_holds(fake_);
}

TEST_F(Prepare, FilesOfAnotherDatasetAreNamed) {
  options_.known = {fake_.source, other_.source};
  other_.write_to(folder_ / "source");
  options_.source = (folder_ / "source").string();
  EXPECT_THAT([&] { prepare(fake_); },
              ThrowsMessage<InputError>(AllOf(
                  HasSubstr("source/train-images.gz: is train-images of Fake 2, not train-images of Fake 1; for Fake 2 "
                            "type: prepare_data --dataset fake2 --source " +
                            options_.source),
                  ::testing::Not(HasSubstr("delete")))));
  // Only one of the four is wrong: labels where images should be.
  fake_.write_to(folder_ / "source");
  write_bytes(folder_ / "source/test-images.gz", gzip(other_.raw[3]));
  EXPECT_THAT([&] { prepare(fake_); },
              ThrowsMessage<InputError>(HasSubstr(
                  "test-images.gz: is test-labels of Fake 2, not test-images of Fake 1; give a folder that holds "
                  "the four files of one data set")));
  // Larger than the file whose name it has.
  fake_.write_to(folder_ / "source");
  write_bytes(folder_ / "source/test-labels.gz", gzip(other_.raw[0]));
  EXPECT_THAT([&] { prepare(fake_); },
              ThrowsMessage<InputError>(HasSubstr("test-labels.gz: is train-images of Fake 2, not test-labels of")));
  expect_nothing_written();
}

TEST_F(Prepare, SwappedFilesAreToldApart) {
  options_.source = (folder_ / "source").string();
  const auto expect_swap = [&](size_t one, size_t two) {
    fake_.write_to(folder_ / "source", /*compressed=*/false);
    write_bytes(folder_ / "source" / fake_.source.files[one].name, fake_.raw[two]);
    write_bytes(folder_ / "source" / fake_.source.files[two].name, fake_.raw[one]);
    const std::string first = fake_.source.files[one].name, second = fake_.source.files[two].name;
    EXPECT_THAT([&] { prepare(fake_); },
                ThrowsMessage<InputError>(HasSubstr(first + ": is " + second + " of Fake 1, not " + first +
                                                    " of Fake 1; give each file the name of what it holds")));
  };
  expect_swap(0, 2);
  expect_swap(1, 3);
  expect_swap(0, 1);
  expect_swap(2, 3);
}

TEST_F(Prepare, WhatTheUserGaveIsNeverToBeDeleted) {
  options_.source = (folder_ / "source").string();
  for (const std::string& bytes : {one_byte_changed(fake_, "train-images.gz"), gzip("other"), "text"s}) {
    fake_.write_to(folder_ / "source");
    write_bytes(folder_ / "source/train-images.gz", bytes);
    EXPECT_THAT([&] { prepare(fake_); }, ThrowsMessage<InputError>(::testing::Not(HasSubstr("delete"))));
  }
}

TEST_F(Prepare, AMirrorOfAnotherDatasetIsNamed) {
  options_.known = {fake_.source, other_.source};
  const HttpServer server([&](const std::string& request) { return serve_file(request, other_.requested(request)); });
  options_.source = server.url();
  EXPECT_THAT([&] { prepare(fake_); },
              ThrowsMessage<Error>(HasSubstr("serves train-images of Fake 2, not train-images of Fake 1; for Fake 2 "
                                             "type: prepare_data --dataset fake2 --source " +
                                             server.url())));
}

TEST_F(Prepare, AnotherDatasetsFileInDataRawIsNamed) {
  options_.known = {fake_.source, other_.source};
  Fake served = fake_;
  served.write_to(folder_ / "data/raw/fake1");
  write_bytes(folder_ / "data/raw/fake1/test-images.gz", gzip(other_.raw[2]));
  const HttpServer good([&](const std::string& request) { return serve_file(request, served.requested(request)); });
  served.source.mirrors = {good.url()};
  prepare(served);
  expect_holds(served);
  EXPECT_THAT(notes_, HasSubstr("test-images.gz: is test-images of Fake 2, not test-images of Fake 1; downloading it"));
}

// Runs where MNIST's files lie beside the checkout.
TEST_F(Prepare, MnistIsNotFashionMnist) {
  const fs::path mnist = fs::path(IGPT_SOURCE).parent_path() / "shared/data/mnist";
  if (!fs::exists(mnist)) GTEST_SKIP() << mnist << " is not there";
  options_.source = mnist.string();
  EXPECT_THAT([&] { data::prepare(find_dataset("fashion"), options_); },
              ThrowsMessage<InputError>(AllOf(
                  HasSubstr("is train-images-idx3-ubyte of MNIST, not train-images-idx3-ubyte of Fashion-MNIST; "),
                  HasSubstr("type: prepare_data --dataset mnist --source " + mnist.string()))));
}

TEST_F(Prepare, FilesOfAnotherSizeAreNotDecompressedFurther) {
  fake_.write_to(folder_ / "source");
  write_bytes(folder_ / "source/test-labels.gz", gzip(std::string(50 << 20, '\0'), 9));
  options_.source = (folder_ / "source").string();
  EXPECT_THAT([&] { prepare(fake_); }, ThrowsMessage<InputError>(HasSubstr("decompresses to more than the 28 bytes")));
}

TEST_F(Prepare, UsesTheFilesOfADistribution) {
  Fake packaged = fake_;
  packaged.write_to(folder_ / "usr");
  packaged.source.folders = {folder_ / "nowhere", folder_ / "usr"};
  prepare(packaged);
  expect_holds(packaged);
  EXPECT_FALSE(fs::exists(options_.data_dir / "raw"));
}

TEST_F(Prepare, DownloadsFromTheFirstMirrorThatServesRightBytes) {
  Fake served = fake_;
  const HttpServer broken([](const std::string&) { return status("404 Not Found"); });
  const HttpServer wrong([&](const std::string&) { return ok(gzip("wrong bytes")); });
  const HttpServer almost([&](const std::string&) { return ok(one_byte_changed(served, "train-images.gz")); });
  const HttpServer lying([&](const std::string&) { return ok(gzip(std::string(1 << 20, '\0'), 9)); });
  const HttpServer good([&](const std::string& request) { return serve_file(request, served.requested(request)); });
  served.source.mirrors = {broken.url(), wrong.url(), almost.url(), lying.url("/"), good.url("/")};
  uint64_t last = 0;
  options_.progress = [&](const std::string&, uint64_t done, uint64_t) { last = std::max(last, done); };
  prepare(served);
  expect_holds(served);
  EXPECT_GT(last, 1000u);
  EXPECT_EQ(good.requests().size(), 4u);
  const std::set<std::string> expected = {".lock", "test-images.gz", "test-labels.gz", "train-images.gz",
                                          "train-labels.gz"};
  EXPECT_EQ(folder_.names("data/raw/fake1"), expected);
  EXPECT_THAT(notes_, HasSubstr("downloading " + good.url("/train-images.gz")));
}

TEST_F(Prepare, WorksOfflineFromWhatWasDownloaded) {
  Fake served = fake_;
  {
    const HttpServer good([&](const std::string& request) { return serve_file(request, served.requested(request)); });
    served.source.mirrors = {good.url()};
    prepare(served);
  }
  for (const char* name : {"train_x.npy", "dataset.yaml"}) fs::remove(options_.data_dir / name);
  prepare(served);
  expect_holds(served);
}

TEST_F(Prepare, DamagedRawFilesAreDownloadedAgain) {
  Fake served = fake_;
  served.write_to(folder_ / "data/raw/fake1");
  write_bytes(folder_ / "data/raw/fake1/test-images.gz", "damaged");
  const HttpServer good([&](const std::string& request) { return serve_file(request, served.requested(request)); });
  served.source.mirrors = {good.url()};
  prepare(served);
  expect_holds(served);
  EXPECT_EQ(good.requests().size(), 1u);
  EXPECT_THAT(notes_, HasSubstr("test-images.gz: is damaged; downloading it again"));
}

TEST_F(Prepare, ADownloadIsContinuedByTheNextStart) {
  Fake served = fake_;
  const HttpServer server([&](const std::string& request) {
    const std::string response = serve_file(request, served.requested(request));
    return range_start(request) == 0 && request.find("train-images") != std::string::npos ? response.substr(0, 2000)
                                                                                          : response;
  });
  served.source.mirrors = {server.url()};
  options_.download.max_attempts = 1;
  EXPECT_THROW(prepare(served), Error);
  EXPECT_TRUE(fs::exists(folder_ / "data/raw/fake1/train-images.gz.part"));
  expect_nothing_written();
  prepare(served);
  expect_holds(served);
  EXPECT_THAT(server.requests().at(1), HasSubstr("Range: bytes="));
}

TEST_F(Prepare, AContinuedDownloadWithWrongBytesStartsOver) {
  Fake served = fake_;
  fs::create_directories(folder_ / "data/raw/fake1");
  write_bytes(folder_ / "data/raw/fake1/train-images.gz.part", "something else");
  const HttpServer server([&](const std::string& request) { return serve_file(request, served.requested(request)); });
  served.source.mirrors = {server.url()};
  prepare(served);
  expect_holds(served);
  EXPECT_EQ(server.requests().size(), 5u);
}

TEST_F(Prepare, ACompletePartNeedsNoServer) {
  fake_.write_to(folder_ / "data/raw/fake1");
  fs::rename(folder_ / "data/raw/fake1/test-labels.gz", folder_ / "data/raw/fake1/test-labels.gz.part");
  prepare(fake_);
  expect_holds(fake_);
  EXPECT_TRUE(fs::exists(folder_ / "data/raw/fake1/test-labels.gz"));
}

TEST_F(Prepare, AllFailuresAreNamedInOneLine) {
  Fake served = fake_;
  const HttpServer broken([](const std::string&) { return status("404 Not Found"); });
  const HttpServer wrong([&](const std::string&) { return ok("wrong"); });
  served.source.mirrors = {broken.url(), wrong.url()};
  EXPECT_THAT([&] { prepare(served); },
              ThrowsMessage<Error>(AllOf(HasSubstr(broken.url() + "/train-images.gz: HTTP 404; "),
                                         HasSubstr(wrong.url() + "/train-images.gz: serves wrong bytes; "),
                                         HasSubstr("with --source"), ::testing::Not(HasSubstr("\n")))));
  expect_nothing_written();
}

TEST_F(Prepare, SourceMayBeAnotherMirror) {
  const HttpServer good([&](const std::string& request) { return serve_file(request, fake_.requested(request)); });
  options_.source = good.url("/");
  prepare(fake_);
  expect_holds(fake_);
}

TEST_F(Prepare, OtherSourcesAreUsageErrors) {
  for (const char* source : {"ftp://host/x", "file:///x", "://"}) {
    options_.source = source;
    EXPECT_THROW(prepare(fake_), UsageError);
  }
  options_.source = "";
  options_.dtype = "float32";
  EXPECT_THROW(prepare(fake_), UsageError);
  options_.dtype = "auto";
  options_.source = (folder_ / "missing").string();
  EXPECT_THROW(prepare(fake_), InputError);
}

TEST_F(Prepare, AnInterruptedDownloadKeepsItsPart) {
  Fake served = fake_;
  const HttpServer server([&](const std::string& request) {
    return serve_file(request, served.requested(request)).substr(0, 2000) + std::string(HttpServer::kHold);
  });
  served.source.mirrors = {server.url(), server.url()};
  options_.progress = [](const std::string&, uint64_t done, uint64_t) {
    if (done > 0) throw Interrupted(SIGINT);
  };
  EXPECT_THROW(prepare(served), Interrupted);
  EXPECT_EQ(server.requests().size(), 1u) << "no second mirror after an interruption";
  EXPECT_GT(fs::file_size(folder_ / "data/raw/fake1/train-images.gz.part"), 0u);
  expect_nothing_written();
}

TEST_F(Prepare, AFullDiskKeepsTheOldSet) {
  fake_.write_to(folder_ / "one");
  other_.write_to(folder_ / "two");
  options_.source = (folder_ / "one").string();
  prepare(fake_);
  options_.source = (folder_ / "two").string();
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit tight = before;
  tight.rlim_cur = 2000;
  setrlimit(RLIMIT_FSIZE, &tight);
  EXPECT_THAT([&] { prepare(other_); }, ThrowsMessage<Error>(HasSubstr("cannot write")));
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  expect_holds(fake_);
  EXPECT_FALSE(fs::exists(options_.data_dir / ".incoming"));
}

TEST_F(Prepare, TwoAtOnceLeaveOneCompleteSet) {
  fake_.write_to(folder_ / "one");
  other_.write_to(folder_ / "two");
  options_.note = nullptr;
  options_.force = true;
  std::vector<std::thread> writers;
  for (const auto& [fake, source] : {std::pair{&fake_, "one"}, {&other_, "two"}})
    writers.emplace_back([&, fake = fake, source = source] {
      PrepareOptions options = options_;
      options.source = (folder_ / source).string();
      for (int i = 0; i < 5; ++i) data::prepare(fake->source, options);
    });
  for (std::thread& writer : writers) writer.join();
  expect_holds(read_dataset_info(options_.data_dir)->dataset == "fake1" ? fake_ : other_);
}

}  // namespace
}  // namespace igpt::data
