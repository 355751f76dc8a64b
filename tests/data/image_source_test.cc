#include "igpt/data/image_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "compressed.h"
#include "data/http_server.h"
#include "igpt/data/sha256.h"
#include "igpt/data/split.h"
#include "igpt/error.h"
#include "igpt/formats/npy.h"
#include "picture_files.h"
#include "temporary_folder.h"

namespace igpt::data {
namespace {

namespace fs = std::filesystem;
using igpt::testing::as_jpeg;
using igpt::testing::as_png;
using igpt::testing::gzip;
using igpt::testing::HttpServer;
using igpt::testing::tar_end;
using igpt::testing::tar_entry;
using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

using Bytes = std::vector<uint8_t>;

class ImageSources : public ::testing::Test {
 protected:
  ImageSources() {
    setenv("no_proxy", "127.0.0.1", 1);
    options_.data_dir = folder_ / "data";
    options_.source = (folder_ / "source").string();
    options_.made_by = "test";
    options_.note = [this](const std::string& line) { notes_ += line + "\n"; };
  }

  formats::NpyArray<int64_t> array(const char* name) const {
    return formats::read_npy<int64_t>(options_.data_dir / name);
  }

  TemporaryFolder folder_;
  PrepareOptions options_;
  std::string notes_;
};

// CIFAR-10 with two images in each file.
class Cifar10 : public ImageSources {
 protected:
  Cifar10() {
    dataset_.images_per_file = 2;
    for (int i = 0; i < 6; ++i) {
      contents_[i] = record(i) + record(i + 1);
      inner_ += tar_entry(std::string("cifar-10-batches-bin/") + names_[i], contents_[i]);
    }
    set_archive(tar_entry("cifar-10-batches-bin/readme.html", "<html>") + inner_);
  }

  // The pixels of image k have red k, green row, blue column.
  static std::string record(int k) {
    std::string bytes(3073, '\0');
    bytes[0] = static_cast<char>(k);
    for (int i = 0; i < 1024; ++i) {
      bytes[static_cast<size_t>(1 + i)] = static_cast<char>(k);
      bytes[static_cast<size_t>(1 + 1024 + i)] = static_cast<char>(i / 32);
      bytes[static_cast<size_t>(1 + 2048 + i)] = static_cast<char>(i % 32);
    }
    return bytes;
  }

  void set_archive(const std::string& tar) {
    archive_ = gzip(tar + tar_end());
    dataset_.archive.size = archive_.size();
    dataset_.archive.sha256 = sha256(archive_);
  }

  static void expect_right(const RawImages& images) {
    EXPECT_EQ(images.side, 32);
    EXPECT_EQ(images.channels, 3);
    EXPECT_THAT(images.train.labels, ElementsAre(0, 1, 1, 2, 2, 3, 3, 4, 4, 5));
    EXPECT_THAT(images.test.labels, ElementsAre(5, 6));
    ASSERT_EQ(images.train.pixels.size(), 10u * 3072);
    for (size_t i = 0; i < 1024; ++i) {
      const uint8_t* pixel = images.train.pixels.data() + 3 * (3 * 1024 + i);  // of the fourth image
      ASSERT_THAT(Bytes(pixel, pixel + 3), ElementsAre(2, i / 32, i % 32)) << i;
    }
  }

  RawImages read() { return open_image_source(dataset_, options_)->read(); }
  std::string refused() {
    try {
      read();
    } catch (const Error& error) {
      return error.what();
    }
    return "was read";
  }

  DatasetSource dataset_ = find_dataset("cifar10");
  const char* names_[6] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                           "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};
  std::string contents_[6], inner_, archive_;
};

TEST_F(Cifar10, IsReadFromItsArchive) {
  write_bytes(folder_ / "source", archive_);
  expect_right(read());
  fs::remove(folder_ / "source");
  fs::create_directory(folder_ / "source");
  write_bytes(folder_ / "source/cifar-10-binary.tar.gz", archive_);
  expect_right(read());
  EXPECT_THAT(folder_.names(), ElementsAre("source"));  // nothing was unpacked
}

TEST_F(Cifar10, IsReadFromItsFiles) {
  for (const char* inner : {"", "cifar-10-batches-bin"}) {
    fs::create_directories(folder_ / "source" / inner);
    for (int i = 0; i < 6; ++i) write_bytes(folder_ / "source" / inner / names_[i], contents_[i]);
    expect_right(read());
    EXPECT_EQ(open_image_source(dataset_, options_)->sums()[5].sha256, sha256(contents_[5]));
    fs::remove_all(folder_ / "source");
  }
}

TEST_F(Cifar10, IsDownloadedOnceAndChecked) {
  std::atomic<int> requests = 0;
  std::string served = archive_;
  HttpServer server([&](const std::string&) {
    ++requests;
    return igpt::testing::ok(served);
  });
  options_.source.clear();
  dataset_.mirrors = {server.url()};
  served.back() = static_cast<char>(served.back() ^ 1);
  EXPECT_THAT(refused(), HasSubstr("serves wrong bytes"));
  served = archive_;
  expect_right(read());
  const int before = requests;
  expect_right(read());
  EXPECT_EQ(requests, before);
  EXPECT_THAT(folder_.names("data/raw/cifar10"), ElementsAre(".lock", "cifar-10-binary.tar.gz"));
}

TEST_F(Cifar10, WrongBytesAreRefused) {
  EXPECT_THAT(refused(), HasSubstr("source: no such file or folder"));
  std::string changed = archive_;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  write_bytes(folder_ / "source", changed);
  EXPECT_THAT(refused(), HasSubstr("does not hold the bytes of cifar-10-binary.tar.gz"));
  const auto with = [&](const std::string& tar) {
    set_archive(tar);
    write_bytes(folder_ / "source", archive_);
    return refused();
  };
  EXPECT_THAT(with(inner_.substr(0, 3 * (512 + 6656))), HasSubstr("data_batch_4.bin: has 0 bytes instead of 6146"));
  EXPECT_THAT(with(inner_ + tar_entry("x/test_batch.bin", contents_[5])), HasSubstr("holds test_batch.bin twice"));
  EXPECT_THAT(with(tar_entry("../test_batch.bin", contents_[5]) + inner_), HasSubstr("outside of itself"));
  EXPECT_THAT(with(tar_entry("test_batch.bin", contents_[5] + "x")), HasSubstr("6147 bytes, more than the 6146"));
  EXPECT_THAT(with(inner_.replace(512, 1, "\x0a")), HasSubstr("data_batch_1.bin: holds the label 10"));
  EXPECT_THAT(with("x"), HasSubstr("is not a .tar or .tar.gz"));
}

TEST_F(Cifar10, BecomesGreyTokensOfThePalette) {
  write_bytes(folder_ / "source", archive_);
  const auto result = prepare(dataset_, options_);
  EXPECT_FALSE(result.already_there);
  EXPECT_THAT(result.files[0].shape, ElementsAre(10, 32, 32));
  const auto x = array("train_x.npy"), y = array("test_y.npy");
  EXPECT_THAT(y.values, ElementsAre(5, 6));
  for (int64_t i = 0; i < 1024; ++i) {
    const double luma = (299 * 2 + 587 * (i / 32) + 114 * (i % 32)) / 1000.0;
    ASSERT_EQ(x.values[static_cast<size_t>(3 * 1024 + i)], std::lround(luma) / 17) << i;
  }
  const auto info = read_dataset_info(options_.data_dir);
  EXPECT_EQ(info->dataset, "cifar10");
  EXPECT_EQ(info->image_size, 32);
  EXPECT_EQ(info->classes[3], "cat");
  EXPECT_TRUE(prepare(dataset_, options_).already_there);
}

class ImageFolder : public ImageSources {
 protected:
  ImageFolder() { options_.num_pixels = 4; }

  static formats::Image filled(uint8_t red, uint8_t green, uint8_t blue, int64_t height = 6, int64_t width = 8) {
    formats::Image image{height, width, 3, {}};
    for (int64_t i = 0; i < height * width; ++i) image.pixels.insert(image.pixels.end(), {red, green, blue});
    return image;
  }

  void put(const std::string& name, const std::string& bytes) {
    fs::create_directories((folder_ / "source" / name).parent_path());
    write_bytes(folder_ / "source" / name, bytes);
  }
  void put_grey(const std::string& name, uint8_t grey) { put(name, as_png(filled(grey, grey, grey))); }

  // Two classes in training and test set.
  void put_some(bool colours = false) {
    put_grey("train/cat/b.png", 20);
    put("train/cat/a.png", as_png({5, 5, 1, Bytes(25, 10)}));
    put("train/Dog/c.JPG", as_jpeg(filled(30, 30, 30)));
    put("test/cat/x.png", as_png(colours ? filled(40, 50, 60) : filled(40, 40, 40)));
  }

  std::unique_ptr<ImageSource> open() { return open_image_source(find_dataset("folder"), options_); }
  std::string refused() {
    try {
      open()->read();
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "was read";
  }
};

TEST_F(ImageFolder, IsInTheOrderOfNames) {
  put_some();
  const auto source = open();
  EXPECT_THAT(source->classes(), ElementsAre("Dog", "cat"));
  const RawImages images = source->read();
  EXPECT_EQ(images.side, 4);
  EXPECT_EQ(images.channels, 1);
  EXPECT_THAT(images.train.labels, ElementsAre(0, 1, 1));
  EXPECT_THAT(images.test.labels, ElementsAre(1));
  ASSERT_EQ(images.train.pixels.size(), 3u * 16);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(images.train.pixels[i], 30);
    EXPECT_EQ(images.train.pixels[16 + i], 10);
    EXPECT_EQ(images.train.pixels[32 + i], 20);
    EXPECT_EQ(images.test.pixels[i], 40);
  }
}

TEST_F(ImageFolder, OneColourMakesAllThreeChannels) {
  put_some(/*colours=*/true);
  const RawImages images = open()->read();
  EXPECT_EQ(images.channels, 3);
  EXPECT_EQ(images.train.pixels.size(), 3u * 48);
  EXPECT_EQ(images.train.pixels[48 + 5], 10);
  EXPECT_THAT(Bytes(images.test.pixels.begin(), images.test.pixels.begin() + 4), ElementsAre(40, 50, 60, 40));
}

TEST_F(ImageFolder, ATenthBecomesTheTestSetBySeed) {
  for (int i = 0; i < 40; ++i)
    put_grey((i % 2 ? "odd/" : "even/") + std::to_string(100 + i) + ".png", static_cast<uint8_t>(i));
  const auto greys = [&](int64_t seed) {
    options_.seed = seed;
    const RawImages images = open()->read();
    EXPECT_EQ(images.test.labels.size(), 4u);
    EXPECT_EQ(images.train.labels.size(), 36u);
    std::vector<int> all;
    for (const auto* part : {&images.test, &images.train})
      for (size_t i = 0; i < part->labels.size(); ++i) {
        all.push_back(part->pixels[16 * i]);
        EXPECT_EQ(part->labels[i], all.back() % 2);
      }
    return all;
  };
  const auto first = greys(1), again = greys(1), other = greys(2);
  EXPECT_EQ(first, again);
  EXPECT_NE(first, other);
  std::vector<int> expected(40);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_THAT(first, ::testing::UnorderedElementsAreArray(expected));
}

TEST_F(ImageFolder, TheSetMadeOfItIsNoClass) {
  put_grey("a/1.png", 10);
  put_grey("b/1.png", 20);
  put("data/train_x.npy", "x");
  options_.data_dir = folder_ / "source/data";
  EXPECT_THAT(open()->classes(), ::testing::ElementsAre("a", "b"));
}

TEST_F(ImageFolder, HiddenAndOtherFilesAreLeftOut) {
  put_some();
  put("train/cat/.hidden.png", "x");
  put("train/cat/notes.txt", "x");
  put("train/.git/x.png", "x");
  fs::create_symlink("circle", folder_ / "source/train/cat/circle");
  EXPECT_EQ(open()->read().train.labels.size(), 3u);
  EXPECT_THAT(notes_, HasSubstr("2 files that end neither in .png nor in .jpg"));
}

TEST_F(ImageFolder, UnreadableFilesAreNamedAndSkippedUpToOnePercent) {
  for (int i = 0; i < 199; ++i) put_grey("train/a/" + std::to_string(1000 + i) + ".png", static_cast<uint8_t>(i));
  put_grey("test/a/x.png", 7);
  const std::string bad = (folder_ / "source/train/a/1050.png").string();
  write_bytes(bad, "no picture");
  write_bytes(folder_ / "source/train/a/1100.png", as_png(filled(1, 2, 3)).substr(0, 60));
  const RawImages images = open()->read();
  EXPECT_EQ(images.channels, 1);
  ASSERT_EQ(images.train.labels.size(), 197u);
  EXPECT_EQ(images.train.pixels[16 * 49], 49);
  EXPECT_EQ(images.train.pixels[16 * 50], 51);
  EXPECT_EQ(images.train.pixels[16 * 196], 198);
  EXPECT_THAT(notes_, HasSubstr("left out: " + bad + ": is neither a PNG nor a JPEG"));
  write_bytes(folder_ / "source/train/a/1101.png", "");
  EXPECT_THAT(refused(), AllOf(HasSubstr("3 of 200 pictures cannot be read, more than 1 %; the first: " + bad)));
}

TEST_F(ImageFolder, FoldersThatCannotBeOneAreRefused) {
  EXPECT_THAT(refused(), HasSubstr("source: no such folder"));
  fs::create_directory(folder_ / "source");
  EXPECT_THAT(refused(), HasSubstr("holds no folders; pictures lie in a folder for each class"));
  put("a/x.txt", "x");
  EXPECT_THAT(refused(), HasSubstr("a: holds no .png or .jpg files"));
  put_grey("a/x.png", 1);
  EXPECT_THAT(refused(), HasSubstr("holds a single picture"));
  fs::remove_all(folder_ / "source");
  put_some();
  put_grey("test/bird/x.png", 1);
  EXPECT_THAT(refused(), HasSubstr("bird: is a class that the training set does not have"));
  fs::remove_all(folder_ / "source/test");
  EXPECT_THAT(refused(), HasSubstr("source: has classes in train but not in test"));
  fs::remove_all(folder_ / "source");
  for (int i = 0; i < 200; ++i) put_grey(std::string(196, 'c') + std::to_string(1000 + i) + "/x.png", 1);
  EXPECT_THAT(refused(), HasSubstr("the names of its 200 classes take 40800 bytes, at most 32768"));
  options_.source.clear();
  EXPECT_THAT([&] { open(); }, ThrowsMessage<UsageError>(HasSubstr("needs --source")));
}

TEST_F(ImageFolder, ProgressCountsBytesAndItsExceptionsEndTheWork) {
  put_some();
  options_.progress = [](const std::string&, uint64_t, uint64_t) { throw Interrupted(SIGINT); };
  EXPECT_THROW(open()->read(), Interrupted);
  uint64_t most = 0, whole = 0;
  options_.progress = [&](const std::string& what, uint64_t done, uint64_t total) {
    EXPECT_EQ(what, "pictures");
    most = std::max(most, done), whole = total;
  };
  open()->read();
  EXPECT_GT(whole, 0u);
  EXPECT_LE(most, whole);
}

TEST_F(ImageFolder, IsPreparedOnceUntilAPictureChanges) {
  put_some(/*colours=*/true);
  const DatasetSource& dataset = find_dataset("folder");
  const auto result = prepare(dataset, options_);
  EXPECT_FALSE(result.already_there);
  EXPECT_THAT(result.files[0].shape, ElementsAre(3, 4, 4));
  const auto info = read_dataset_info(options_.data_dir);
  EXPECT_EQ(info->dataset, "folder source");
  EXPECT_THAT(info->classes, ElementsAre("Dog", "cat"));
  EXPECT_EQ(info->image_size, 4);
  EXPECT_EQ(array("train_x.npy").values[0], 30 / 17);
  EXPECT_EQ(array("test_x.npy").values[0], 48 / 17);  // the luma of (40, 50, 60)
  EXPECT_TRUE(prepare(dataset, options_).already_there);
  put_grey("train/cat/b.png", 21);
  EXPECT_FALSE(prepare(dataset, options_).already_there);
  EXPECT_TRUE(prepare(dataset, options_).already_there);
  options_.num_pixels = 5;
  EXPECT_FALSE(prepare(dataset, options_).already_there);
}

TEST_F(ImageFolder, MoreThan256ClassesTakeWideLabels) {
  for (int i = 0; i < 300; ++i) put_grey("train/" + std::to_string(1000 + i) + "/x.png", static_cast<uint8_t>(i % 256));
  put_grey("test/1299/x.png", 1);
  prepare(find_dataset("folder"), options_);
  EXPECT_EQ(array("train_y.npy").values[299], 299);
  EXPECT_THAT(array("test_y.npy").values, ElementsAre(299));
  EXPECT_EQ(read_split(options_.data_dir / "train_x.npy", options_.data_dir / "train_y.npy").labels[298], 298);
}

TEST_F(ImageFolder, ColoursGetThePaletteOfColours) {
  put_some(/*colours=*/true);
  options_.palette.channels = 3;
  options_.palette.colours = {0, 0, 0, 30, 30, 30, 40, 50, 60};
  prepare(find_dataset("folder"), options_);
  EXPECT_THAT(array("train_x.npy").values, ::testing::Each(::testing::AnyOf(0, 1)));
  EXPECT_THAT(array("test_x.npy").values, ::testing::Each(2));
  put("test/cat/x.png", as_png(filled(1, 1, 1)));
  EXPECT_THAT([&] { prepare(find_dataset("folder"), options_); },
              ThrowsMessage<InputError>(HasSubstr("its palette is RGB, and the images of")));
}

}  // namespace
}  // namespace igpt::data
