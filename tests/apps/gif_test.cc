#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/refusals.h"
#include "apps/trained_model.h"
#include "igpt/sampling/figure.h"
#include "igpt/sampling/generate.h"
#include "pictures.h"
#include "process.h"
#include "temporary_folder.h"

namespace igpt {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class GifProgram : public ::testing::Test {
 protected:
  void SetUp() override { checkpoint_ = testing::write_random_checkpoint(folder_ / "model.ckpt"); }

  testing::Ending gif(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), testing::program("gif"));
    return testing::run(arguments, {}, folder_.path());
  }
  // Nothing may have been written.
  void refused(const std::vector<std::string>& arguments, int status, const std::string& message) {
    testing::expect_refusal(gif(arguments), "gif", status, message);
    EXPECT_THAT(folder_.names(), UnorderedElementsAre("model.ckpt"));
  }

  testing::TemporaryFolder folder_;
  Checkpoint checkpoint_;
};

TEST_F(GifProgram, ColoursAreThoseOfThePaletteHoweverManyThereAre) {
  for (const int64_t colours : {20, 300, 32768}) {
    checkpoint_ = testing::write_colour_checkpoint(folder_ / "colours.ckpt", colours);
    const auto ending =
        gif({"colours.ckpt", "--rows", "1", "--cols", "2", "--seed", "6", "--scale", "1", "-o", "a.gif"});
    ASSERT_EQ(ending.exit_code, 0) << ending.err;
    auto model = make_model(read_checkpoint(folder_ / "colours.ckpt"));
    const auto tokens = sampling::generate(model, torch::empty({2, 0}, torch::kInt64), {0, 1}, {1, 0, 1, 6});
    const auto images = sampling::pixels_of(tokens.view({1, 2, 8, 8}), model->palette());
    const auto animation = testing::decode_gif(folder_ / "a.gif");
    EXPECT_EQ(animation.frames.back(), sampling::to_image(sampling::tiled(images)).pixels) << colours << " colours";
    EXPECT_EQ(animation.frames.front(), std::vector<uint8_t>(8 * 16 * 3, 0));
  }
}

TEST_F(GifProgram, HasARowForEachClass) {
  const auto checkpoint = testing::write_conditional_checkpoint(folder_ / "classes.ckpt");
  const auto last_frame = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"classes.ckpt", "--cols", "2", "--seed", "6", "--scale", "1", "-o", "a.gif"});
    const auto ending = gif(arguments);
    EXPECT_EQ(ending.exit_code, 0) << ending.err;
    return testing::decode_gif(folder_ / "a.gif").frames.back();
  };
  const auto expected = [&](const std::vector<int64_t>& rows) {
    std::vector<int64_t> classes;
    std::vector<uint64_t> streams;
    for (const int64_t label : rows)
      for (int64_t column = 0; column < 2; ++column) {
        classes.push_back(label);
        streams.push_back(streams.size());
      }
    const auto model = make_model(checkpoint);
    const auto images = static_cast<int64_t>(classes.size());
    const auto tokens = sampling::generate(model, torch::empty({images, 0}, torch::kInt64), streams, {.seed = 6}, {},
                                           /*bf16=*/false, classes);
    std::vector<uint8_t> frame;  // RGB
    for (const uint8_t grey :
         sampling::to_image(sampling::tiled(sampling::pixels_of(tokens.view({-1, 2, 8, 8}), model->palette()))).pixels)
      frame.insert(frame.end(), 3, grey);
    return frame;
  };
  EXPECT_EQ(last_frame({"--class", "2,0"}), expected({2, 0}));
  EXPECT_EQ(last_frame({"--class", "1", "--rows", "2"}), expected({1, 1}));
  EXPECT_EQ(last_frame({"--rows", "4"}), expected({0, 1, 2, 0}));
  EXPECT_NE(expected({2, 0}), expected({1, 1}));
  EXPECT_THAT(gif({"classes.ckpt", "--class", "2", "--cols", "1", "--seed", "6"}).out,
              HasSubstr("1 x 1 images of class 2 in "));
  EXPECT_THAT(gif({"classes.ckpt", "--class", "2,1", "--rows", "1"}).err,
              HasSubstr("--class: names 2 classes, and --rows 1 has no room for all; raise it"));
  EXPECT_THAT(gif({"classes.ckpt", "-o", "a.mp4"}).err, HasSubstr("must be a name that ends in .gif"));
}

TEST_F(GifProgram, EndsWithTheImagesOfTheLibrary) {
  const auto ending = gif({"model.ckpt", "--rows", "2", "--cols", "3", "--seed", "6", "--scale", "1.5", "--downsample",
                           "5", "--fps", "10", "--temperature", "1.1", "-o", "a.gif"});
  ASSERT_EQ(ending.exit_code, 0) << ending.err;
  EXPECT_EQ(ending.out, "a.gif: 2 x 3 images in 14 frames, seed 6\n");

  const auto animation = testing::decode_gif(folder_ / "a.gif");
  constexpr int64_t tile = 12;
  ASSERT_EQ(animation.width, 3 * tile);
  ASSERT_EQ(animation.height, 2 * tile);
  EXPECT_EQ(animation.delays, std::vector<int>(14, 10));
  ASSERT_EQ(animation.frames.size(), 14u);
  EXPECT_EQ(animation.frames.front(), std::vector<uint8_t>(3 * 2 * tile * 3 * tile, 0));

  auto model = make_model(checkpoint_);
  const auto tokens = sampling::generate(model, torch::empty({6, 0}, torch::kInt64), {0, 1, 2, 3, 4, 5}, {1.1, 0, 1, 6})
                          .view({6, 8, 8});
  for (int64_t y = 0; y < animation.height; ++y)
    for (int64_t x = 0; x < animation.width; ++x) {
      // Nearest neighbour: the pixel in which the centre of this one lies.
      const auto source = [](int64_t i) { return static_cast<int64_t>((static_cast<double>(i % tile) + 0.5) / 1.5); };
      const int64_t image = y / tile * 3 + x / tile;
      const auto token = tokens[image][source(y)][source(x)].item<int64_t>();
      EXPECT_EQ(animation.frames.back()[static_cast<size_t>((y * animation.width + x) * 3)], token * 17);
    }
}

TEST_F(GifProgram, MakesFiveByFiveImagesTwiceAsLargeByDefault) {
  ASSERT_EQ(gif({"model.ckpt"}).exit_code, 0);
  const auto animation = testing::decode_gif(folder_ / "out.gif");
  EXPECT_EQ(animation.width, 5 * 16);
  EXPECT_EQ(animation.height, 5 * 16);
  EXPECT_EQ(animation.delays, std::vector<int>(14, 5));
  EXPECT_THAT(folder_.names(), UnorderedElementsAre("model.ckpt", "out.gif"));
}

TEST_F(GifProgram, TheSameSeedGivesTheSameBytesWithAnyThreads) {
  ASSERT_EQ(gif({"model.ckpt", "--seed", "1", "-o", "a.gif", "--threads", "1"}).exit_code, 0);
  ASSERT_EQ(gif({"model.ckpt", "--seed", "1", "-o", "b.gif", "--threads", "4"}).exit_code, 0);
  EXPECT_EQ(testing::read_bytes(folder_ / "a.gif"), testing::read_bytes(folder_ / "b.gif"));
}

TEST_F(GifProgram, JsonIsOneObject) {
  const auto ending = gif({"model.ckpt", "--json", "-q", "--rows", "1", "--cols", "2", "--seed", "4"});
  EXPECT_EQ(ending.out, "{\"output\":\"out.gif\",\"seed\":4,\"frames\":14,\"images\":2}\n");
  EXPECT_EQ(ending.err, "");
}

TEST_F(GifProgram, UsageErrorsNameTheOptionAndTheCure) {
  refused({}, 2, "CKPT is required");
  refused({"model.ckpt", "surplus"}, 2, "surplus: unexpected argument");
  refused({"model.ckpt", "--row", "1"}, 2, "--row: unknown option; did you mean --rows?");
  refused({"model.ckpt", "--rows", "0"}, 2, "--rows 0: must be 1 to 100");
  refused({"model.ckpt", "--fps", "nan"}, 2, "--fps nan: must be a number");
  refused({"model.ckpt", "--fps", "0"}, 2, "--fps 0: must be 0.01 to 50");
  refused({"model.ckpt", "--fps", "60"}, 2,
          "--fps 60: must be 0.01 to 50, since browsers play shorter frames than 20 ms at 10 a second");
  refused({"model.ckpt", "--scale", "-1"}, 2, "--scale -1: must be 0.01 to 100");
  refused({"model.ckpt", "--cols", "100", "--scale", "100"}, 2, "a GIF has at most 65535 pixels a side");
  refused({"model.ckpt", "--downsample", "0"}, 2, "--downsample 0: must be at least 1");
  refused({"model.ckpt", "--threads", "x"}, 2, "--threads x: must be a whole number");
  refused({"model.ckpt", "-o"}, 2, "-o: needs a value");
  refused({"model.ckpt", "--class", "1"}, 2, "--class: model.ckpt has no start token for each class");
}

TEST_F(GifProgram, FilesThatCannotBeUsedAreNamed) {
  refused({"none.ckpt"}, 1, "none.ckpt: ");
  refused({"."}, 1, ".: is a folder");
  refused({"model.ckpt", "-o", "none/out.gif"}, 1, "none/out.gif: cannot create");
  refused({"model.ckpt", "-o", "model.ckpt"}, 2, "--output model.ckpt: must be a name that ends in .gif");
  std::filesystem::create_symlink("model.ckpt", folder_ / "link");
  EXPECT_THAT(gif({"model.ckpt", "-o", "link"}).err, HasSubstr("link: the command reads or writes this file"));
  std::filesystem::remove(folder_ / "link");
  refused({"model.ckpt", "-o", ""}, 2, "--output \"\": is empty");
  refused({"none\n.ckpt"}, 1, "none\\n.ckpt: ");
}

TEST_F(GifProgram, OutputThatCannotBePrintedIsAFailure) {
  const auto ending = testing::run(
      {"/bin/sh", "-c", testing::program("gif") + " model.ckpt --rows 1 --cols 1 -q > /dev/full"}, {}, folder_.path());
  EXPECT_EQ(ending.exit_code, 1);
  EXPECT_EQ(ending.err, "gif: cannot write the output: No space left on device\n");
}

TEST_F(GifProgram, AnInterruptEndsItWithoutAFile) {
  testing::Process process({testing::program("gif"), "model.ckpt", "--rows", "100", "--cols", "100"}, {},
                           folder_.path());
  testing::wait_until_caught(process, SIGINT);
  process.signal(SIGINT);
  EXPECT_EQ(process.wait().exit_code, 130);
  EXPECT_THAT(folder_.names(), UnorderedElementsAre("model.ckpt"));
}

}  // namespace
}  // namespace igpt
