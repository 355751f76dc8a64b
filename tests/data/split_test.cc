#include "igpt/data/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST_F(ReadSplit, MissingFilesSayHowToGetThem) {
  put_x({1, 1, 1}, {0});
  EXPECT_THAT([&] { read_split(x_, y_); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("y.npy: no such file"), HasSubstr("run prepare_data first"))));
}

TEST_F(ReadSplit, TokensOutsideThePaletteAreRefused) {
  put_x({1, 2, 2}, {0, 1, 2, 16});
  put_y({1}, {0});
  EXPECT_THAT([&] { read_split(x_, y_, {.num_vocab = 16}); },
              ThrowsMessage<InputError>(HasSubstr("x.npy: holds 16 at (0, 1, 1), allowed are 0 to 15")));
}

TEST_F(ReadSplit, NegativeLabelsAreRefused) {
  put_x({1, 1, 1}, {0});
  put_y({1}, {-1});
  EXPECT_THAT([&] { read_split(x_, y_); }, ThrowsMessage<InputError>(HasSubstr("y.npy: holds -1 at (0,)")));
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
