#include "igpt/data/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "igpt/data/sha256.h"
#include "igpt/error.h"
#include "igpt/formats/npy.h"
#include "temporary_folder.h"

namespace igpt::data {
namespace {

using formats::write_npy;
using igpt::testing::TemporaryFolder;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class ReadSplit : public ::testing::Test {
 protected:
  void put_x(const std::vector<int64_t>& shape, const std::vector<uint8_t>& values) { write_npy(x_, shape, values); }
  void put_y(const std::vector<int64_t>& shape, const std::vector<int64_t>& values) { write_npy(y_, shape, values); }

  TemporaryFolder folder_;
  std::filesystem::path x_ = folder_ / "x.npy", y_ = folder_ / "y.npy";
};

TEST_F(ReadSplit, GivesTokensAndLabels) {
  put_x({3, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15});
  put_y({3}, {9, 0, 4});
  const Split split = read_split(x_, y_, {.num_vocab = 16});
  EXPECT_EQ(split.count, 3);
  EXPECT_EQ(split.num_pixels, 2);
  EXPECT_THAT(std::get<std::vector<uint8_t>>(split.tokens), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15));
  EXPECT_THAT(split.labels, ElementsAre(9, 0, 4));
}

TEST_F(ReadSplit, ReadsAnyIntegerType) {
  write_npy(x_, {1, 2, 2}, std::vector<int64_t>{0, 1, 2, 15});
  write_npy(y_, {1}, std::vector<uint8_t>{7});
  EXPECT_THAT(std::get<std::vector<uint8_t>>(read_split(x_, y_).tokens), ElementsAre(0, 1, 2, 15));
}

TEST_F(ReadSplit, MoreThan256ColoursTakeTwoBytes) {
  write_npy(x_, {1, 2, 2}, std::vector<int64_t>{0, 255, 256, 511});
  put_y({1}, {0});
  EXPECT_THAT(std::get<std::vector<int16_t>>(read_split(x_, y_, {.num_vocab = 512}).tokens),
              ElementsAre(0, 255, 256, 511));
  EXPECT_THAT([&] { read_split(x_, y_, {.num_vocab = 511}); },
              ThrowsMessage<InputError>(HasSubstr("x.npy: holds 511 at (0, 1, 1), allowed are 0 to 510")));
}

TEST_F(ReadSplit, FingerprintKnowsImagesAndLabelsButNotTheirType) {
  const auto fingerprint_of = [&](const std::filesystem::path& y) {
    return fingerprint(read_split(x_, y, {.num_vocab = 16}));
  };
  put_x({2, 1, 1}, {3, 4});
  put_y({2}, {0, 1});
  const std::string images = fingerprint_of(""), both = fingerprint_of(y_);
  EXPECT_EQ(images.size(), 64u);
  EXPECT_NE(images, both);
  write_npy(x_, {2, 1, 1}, std::vector<int64_t>{3, 4});
  EXPECT_EQ(fingerprint_of(""), images);
  put_y({2}, {1, 0});
  EXPECT_NE(fingerprint_of(y_), both);
  put_x({2, 1, 1}, {4, 3});
  EXPECT_NE(fingerprint_of(""), images);
  put_x({1, 2, 2}, {3, 4, 0, 0});
  const std::string square = fingerprint_of("");
  put_x({4, 1, 1}, {3, 4, 0, 0});
  EXPECT_NE(fingerprint_of(""), square);
}

class ReadSplitWithInfo : public ReadSplit {
 protected:
  ReadSplitWithInfo() {
    put_x({1, 1, 1}, {0});
    info_.dataset = "fashion";
    info_.palette = Palette::grey(16);
    info_.files = {{"x.npy", sha256_of_file(x_)}};
    put_info();
  }
  void put_info() { igpt::testing::write_bytes(folder_ / "dataset.yaml", to_yaml(info_)); }

  DatasetInfo info_;
};

TEST_F(ReadSplitWithInfo, SaysWhatIsKnownOfItsFileAlone) {
  ASSERT_TRUE(read_split(x_, "").info);
  EXPECT_EQ(read_split(x_, "").info->dataset, "fashion");
  info_.files[0].name = "train_x.npy";
  put_info();
  EXPECT_FALSE(read_split(x_, "").info);
}

TEST_F(ReadSplitWithInfo, AFileThatChangedSinceIsNotKnownAndThatIsSaid) {
  std::string notes;
  const auto info = [&] {
    return read_split(x_, "", {}, {}, [&](const std::string& line) { notes += line + "\n"; }).info;
  };
  EXPECT_TRUE(info());
  EXPECT_EQ(notes, "");
  put_x({1, 1, 1}, {1});
  EXPECT_FALSE(info());
  EXPECT_EQ(notes, x_.string() + ": is not the file that " + (folder_ / "dataset.yaml").string() +
                       " describes (its SHA-256 is another one); its palette and data set are not known\n");
}

TEST_F(ReadSplitWithInfo, IsFoundBehindLinks) {
  std::filesystem::create_directory(folder_ / "links");
  std::filesystem::create_symlink("../x.npy", folder_ / "links/other.npy");
  ASSERT_TRUE(read_split(folder_ / "links/other.npy", "").info);
  EXPECT_EQ(read_split(folder_ / "links/other.npy", "").info->dataset, "fashion");
}

TEST_F(ReadSplitWithInfo, APaletteOtherThanTheCheckpointsIsRefusedWithTheCure) {
  ExpectedSplit expected{.checkpoint = "a.ckpt", .palette = Palette::grey(16)};
  EXPECT_NO_THROW(read_split(x_, "", expected));
  expected.palette = Palette::of_centroids(std::vector<float>(16, 0.5f), 1);
  EXPECT_THAT([&] { read_split(x_, "", expected); },
              ThrowsMessage<InputError>(
                  AllOf(HasSubstr("x.npy: its images have a palette of 16 evenly spaced greys, says "),
                        HasSubstr("dataset.yaml, and a.ckpt one of 16 colours of its own; run `prepare_data --fashion "
                                  "--palette a.ckpt --data_dir " +
                                  folder_.path().string() + "`"))));
  std::swap(*expected.palette, info_.palette);
  put_info();
  EXPECT_THAT([&] { read_split(x_, "", expected); },
              ThrowsMessage<InputError>(HasSubstr("; run `prepare_data --fashion --data_dir ")));
  expected.dataset = "mnist";
  EXPECT_THAT([&] { read_split(x_, "", expected); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("its images are of Fashion-MNIST in a palette of 16 colours"),
                                              HasSubstr("a.ckpt was trained on MNIST in one of 16 evenly spaced greys; "
                                                        "run `prepare_data --data_dir "))));
  expected.dataset.clear();
  std::swap(*expected.palette, info_.palette);
  info_.palette = Palette::of_centroids(std::vector<float>(16, 0.25f), 1);
  put_info();
  EXPECT_THAT([&] { read_split(x_, "", expected); },
              ThrowsMessage<InputError>(HasSubstr("and a.ckpt one of 16 other colours; run")));
  info_.dataset = "mine";
  put_info();
  EXPECT_THAT([&] { read_split(x_, "", expected); },
              ThrowsMessage<InputError>(HasSubstr("; give it images in its own palette")));
  expected.palette = std::nullopt;
  EXPECT_NO_THROW(read_split(x_, "", expected));
  expected.lacks_palette = true;
  EXPECT_THAT([&] { read_split(x_, "", expected); },
              ThrowsMessage<InputError>(HasSubstr("a.ckpt: its tokens are indices of a palette")));
  EXPECT_NO_THROW(read_split(x_, "", {.palette = Palette::grey(16)}));  // of a new model
}

TEST_F(ReadSplit, MissingFilesSayHowToGetThem) {
  put_x({1, 1, 1}, {0});
  EXPECT_THAT([&] { read_split(x_, y_); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("y.npy: no such file"), HasSubstr("check the name"))));
  EXPECT_THAT([] { read_split("data/test_x.npy", ""); },
              ThrowsMessage<InputError>(HasSubstr("run `prepare_data` first, or name the folder")));
  EXPECT_THAT([] { read_split("sets/test_x.npy", "", {.checkpoint = "a.ckpt", .dataset = "fashion"}); },
              ThrowsMessage<InputError>(HasSubstr("run `prepare_data --fashion --data_dir sets` first")));
}

TEST_F(ReadSplit, TokensOutsideThePaletteAreRefused) {
  put_x({1, 2, 2}, {0, 1, 2, 16});
  put_y({1}, {0});
  EXPECT_THAT([&] { read_split(x_, y_, {.num_vocab = 16}); },
              ThrowsMessage<InputError>(HasSubstr("x.npy: holds 16 at (0, 1, 1), allowed are 0 to 15")));
}

// Images that were not quantized: pixels in [0, 1] or [-1, 1], and raw bytes.
TEST_F(ReadSplit, PixelsInsteadOfTokensAreToldHowToQuantize) {
  const auto expect_cure = [&](const std::string& holds, const ExpectedSplit& expected, const std::string& how) {
    EXPECT_THAT([&] { read_split(x_, "", expected); },
                ThrowsMessage<InputError>(AllOf(HasSubstr("x.npy: holds " + holds), HasSubstr(how),
                                                HasSubstr("; prepare_data makes such files"))));
  };
  const std::string greys = "images are palette indices, not pixels: for the 16 greys byte // 17 of bytes 0 to 255";
  write_npy(x_, {1, 1, 1}, std::vector<double>{0.5});
  expect_cure("float64, whole numbers are needed, 0 to 15", {.num_vocab = 16}, greys);
  expect_cure("float64, whole numbers are needed, 0 to 511", {.num_vocab = 512}, "not pixels;");
  put_x({1, 1, 1}, {255});
  expect_cure("255 at (0, 0, 0), allowed are 0 to 15", {.num_vocab = 16}, greys);
  write_npy(x_, {1, 1, 1}, std::vector<int64_t>{-1});
  expect_cure("-1 at (0, 0, 0), allowed are 0 to 15", {.num_vocab = 16}, greys);
  EXPECT_THAT(
      [&] {
        read_split(x_, "",
                   {.num_vocab = 4,
                    .checkpoint = "a b.ckpt",
                    .palette = Palette::of_centroids(std::vector<float>(4, 0.5f), 1)});
      },
      ThrowsMessage<InputError>(HasSubstr("not pixels; prepare_data --palette 'a b.ckpt' makes such files")));
}

TEST_F(ReadSplit, NegativeLabelsAreRefused) {
  put_x({1, 1, 1}, {0});
  put_y({1}, {-1});
  EXPECT_THAT([&] { read_split(x_, y_); },
              ThrowsMessage<InputError>(
                  HasSubstr("y.npy: holds -1 at (0,), allowed are 0 or more; labels are the numbers of classes")));
}

TEST_F(ReadSplit, ImagesOfAnotherSizeAreRefusedBeforeTheyAreRead) {
  put_x({1, 2, 2}, {0, 0, 0, 200});  // which reading them would find
  put_y({1}, {0});
  const ExpectedSplit expected{.num_vocab = 16, .num_pixels = 3, .other_size_cure = "take others"};
  EXPECT_THAT([&] { read_split(x_, y_, expected); },
              ThrowsMessage<InputError>(HasSubstr("its images are 2x2, the model takes 3x3; take others")));
}

TEST_F(ReadSplit, ShapesThatDoNotFitAreRefused) {
  put_y({2}, {0, 1});
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{4}, {2, 2}, {1, 2, 2}, {2, 1, 2}, {1, 4, 1}, {2, 2, 1, 1}}) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    put_x(shape, std::vector<uint8_t>(static_cast<size_t>(count)));
    EXPECT_THROW(read_split(x_, y_), InputError);
  }
  put_x({0, 2, 2}, {});
  put_y({0}, {});
  EXPECT_THAT([&] { read_split(x_, y_); }, ThrowsMessage<InputError>(HasSubstr("holds no images")));
  put_x({1, 2, 2}, {0, 0, 0, 0});
  put_y({1, 1}, {0});
  EXPECT_THROW(read_split(x_, y_), InputError);
  put_y({}, {0});
  EXPECT_THROW(read_split(x_, y_), InputError);
  put_y({1}, {0});
  EXPECT_NO_THROW(read_split(x_, y_));
}

}  // namespace
}  // namespace igpt::data
