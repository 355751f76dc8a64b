#include "igpt/runs/learning_curves.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "igpt/error.h"
#include "igpt/formats/image_file.h"
#include "temporary_folder.h"

namespace igpt::runs {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::read_bytes;
using testing::write_bytes;

class CurvesTest : public ::testing::Test {
 protected:
  CurvesTest() {
    options_.log_dir = folder_ / "logs";
    options_.output = folder_ / "curves.png";
    make("gen", /*classify=*/false);
    make("clf", /*classify=*/true);
  }

  void make(const std::string& name, bool classify) const {
    const fs::path run = folder_ / "logs" / name / "version_0";
    fs::create_directories(run);
    std::string rows = "step,epoch,train_loss,learning_rate,val_loss,val_acc\n";
    for (int step = 50; step <= 1000; step += 50) {
      rows += std::to_string(step) + ",0," + std::to_string(0.7 + 50.0 / step) + ",0.01,,\n";
      if (step % 200 == 0) rows += std::to_string(step) + ",0,,,0.8," + (classify ? "0.9" : "") + "\n";
    }
    write_bytes(run / "metrics.csv", rows);
    write_bytes(run / "hparams.yaml",
                "steps: 1000\nbatch_size: 16\nclassify: " + std::string(classify ? "true" : "false") + "\n");
  }
  std::string refusal() const {
    try {
      plot_runs(options_);
    } catch (const Error& error) {
      EXPECT_FALSE(fs::exists(options_.output));
      return error.what();
    }
    return "";
  }
  // The columns of the picture that have axes: dark points in the row of the x axis.
  int64_t axis_length() const {
    const auto image = formats::decode_image(read_bytes(options_.output), options_.output);
    int64_t longest = 0;
    for (int64_t y = 0; y < image.height; ++y) {
      int64_t dark = 0;
      for (int64_t x = 0; x < image.width; ++x)
        dark += image.pixels[static_cast<size_t>(y * image.width + x) * 3] < 160;
      longest = std::max(longest, dark);
    }
    return longest;
  }

  testing::TemporaryFolder folder_;
  CurvesOptions options_;
};

TEST_F(CurvesTest, SeveralRunsAreDrawnInOnePicture) {
  options_.runs = {"gen", "clf/version_0"};
  EXPECT_THAT(plot_runs(options_), ElementsAre("gen/version_0", "clf/version_0"));
  const auto image = formats::decode_image(read_bytes(options_.output), "curves.png");
  EXPECT_EQ(image.width, 900);
  EXPECT_EQ(image.height, 500);
  options_.output = folder_ / "curves.svg";
  plot_runs(options_);
  EXPECT_THAT(read_bytes(options_.output), HasSubstr("<svg"));
}

TEST_F(CurvesTest, ARunWithoutLossesIsLeftOut) {
  const auto fresh = folder_ / "none.csv";
  write_bytes(fresh, "step,train_loss,val_loss\n");
  options_.runs = {fresh.string(), "gen"};
  std::vector<std::string> notes;
  const Hooks hooks{.stop_signal = {}, .note = [&](const std::string& line) { notes.push_back(line); }};
  EXPECT_THAT(plot_runs(options_, hooks), ElementsAre("gen/version_0"));
  EXPECT_THAT(notes, ElementsAre(HasSubstr("leaving out " + fresh.string() + ": has no losses yet")));
}

TEST_F(CurvesTest, OptionsChangeThePicture) {
  options_.runs = {"clf"};
  const std::vector<std::function<void(CurvesOptions&)>> changes{
      [](auto&) {},
      [](auto& o) { o.metric = "loss"; },
      [](auto& o) { o.metric = "acc"; },
      [](auto& o) { o.log_y = true; },
      [](auto& o) { o.x = "images"; },
      [](auto& o) { o.y_max = 1; },
      [](auto& o) { o.y_min = 0; },
      [](auto& o) { o.width = 700; },
  };
  std::set<std::string> pictures;
  for (const auto& change : changes) {
    CurvesOptions changed = options_;
    change(changed);
    plot_runs(changed);
    pictures.insert(read_bytes(options_.output));
  }
  EXPECT_EQ(pictures.size(), changes.size());
}

TEST_F(CurvesTest, OnlyClassifiersHaveTwoPairsOfAxes) {
  options_.runs = {"gen"};
  plot_runs(options_);
  const int64_t one = axis_length();
  EXPECT_GT(one, 760);
  options_.runs = {"clf"};
  plot_runs(options_);
  EXPECT_LT(axis_length(), one - 40);  // of both together
}

TEST_F(CurvesTest, WhatCannotBeDrawnIsRefused) {
  options_.runs = {"gen", "nobody"};
  EXPECT_THAT(refusal(), HasSubstr("nobody: no such file, and no run in"));
  options_.runs = {"gen"};
  options_.metric = "acc";
  EXPECT_THAT(refusal(), HasSubstr("has no val_acc"));
  options_.metric = "both";
  write_bytes(folder_ / "m.csv", "step,train_loss\n5,1.0\n");
  write_bytes(folder_ / "none.csv", "step,train_loss,val_loss\n5,,\n");
  write_bytes(folder_ / "text.csv", "hello\n");
  options_.runs = {(folder_ / "m.csv").string()};
  options_.x = "images";
  EXPECT_THAT(refusal(), HasSubstr("images cannot be counted; use --x_axis step"));
  options_.x = "step";
  options_.runs = {(folder_ / "none.csv").string()};
  EXPECT_THAT(refusal(), HasSubstr("has no losses yet"));
  options_.runs = {(folder_ / "text.csv").string()};
  EXPECT_THAT(refusal(), HasSubstr("names no column `step`"));
  for (const std::string line : {"7,1.0,2", "x,1.0", "7,1e", "7"}) {
    write_bytes(folder_ / "damaged.csv", "step,train_loss\n5,1.0\n" + line + "\n9,1.0\n");
    options_.runs = {(folder_ / "damaged.csv").string()};
    EXPECT_THAT(refusal(), HasSubstr("damaged.csv: line 3 is damaged")) << line;
  }
  options_.runs = {"gen"};
  options_.y_min = 2, options_.y_max = 1;
  EXPECT_THAT(refusal(), HasSubstr("--y_min 2: must be less than --y_max 1"));
  options_.y_min.reset();
  options_.y_max = -1, options_.log_y = true;
  EXPECT_THAT(refusal(), HasSubstr("--y_max -1: must be greater than 0 with --log_y"));
  options_.y_max.reset();
  options_.log_y = false;
  const std::pair<std::optional<double>, std::optional<double>> ranges[] = {
      {500, 600}, {500, {}}, {{}, -500}, {-1e308, 1e308}};
  for (const auto& [low, high] : ranges) {
    options_.y_min = low, options_.y_max = high;
    EXPECT_THAT(refusal(), HasSubstr("no loss lies in the range of --y_min and --y_max; leave them out"));
  }
  options_.y_min.reset(), options_.y_max.reset();
  options_.runs.assign(41, "gen");
  EXPECT_THAT(refusal(), HasSubstr("41 runs: a picture has room for at most 40"));
}

TEST_F(CurvesTest, ThePictureNeverReplacesTheLosses) {
  options_.runs = {(folder_ / "logs/gen/version_0/metrics.csv").string()};
  fs::create_symlink(options_.runs[0], folder_ / "link.png");
  options_.output = folder_ / "link.png";
  EXPECT_THROW(plot_runs(options_), UsageError);
  options_.output = folder_ / "none/curves.png";
  EXPECT_THAT(refusal(), HasSubstr("none/curves.png: cannot create"));
  options_.output = folder_ / "curves.jpg";
  EXPECT_THAT(refusal(), HasSubstr("must end in .png or .svg"));
}

TEST_F(CurvesTest, RunsOfOneNameAreToldApart) {
  fs::create_directory(folder_ / "a");
  fs::create_directory(folder_ / "b");
  for (const char* name : {"a/m.csv", "b/m.csv"}) write_bytes(folder_ / name, "step,val_loss\n5,1.0\n");
  options_.runs = {(folder_ / "a/m.csv").string(), (folder_ / "b/m.csv").string()};
  EXPECT_EQ(plot_runs(options_), options_.runs);
}

}  // namespace
}  // namespace igpt::runs
