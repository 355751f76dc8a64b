#include "igpt/cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace igpt::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ProgressTest : public ::testing::Test {
 protected:
  ProgressOutput output(bool terminal, int columns = 100, bool colour = false) {
    ProgressOutput output;
    output.write = [this](std::string_view text) { written_ += text; };
    output.seconds = [this] { return now_; };
    output.columns = [columns] { return columns; };
    output.terminal = terminal;
    output.colour = colour;
    return output;
  }
  std::string take() { return std::exchange(written_, ""); }

  std::string written_;
  double now_ = 100;
};

TEST_F(ProgressTest, WithoutATerminalALineAtMostEveryTenSeconds) {
  Progress progress(100, "steps", /*quiet=*/false, output(false));
  for (int step = 1; step <= 99; ++step) {
    now_ += 0.25;
    progress.update(step, "loss 0.71");
  }
  EXPECT_EQ(take(),
            "40% 40/100 steps, 4.00/s, 15 s left, loss 0.71\n"
            "80% 80/100 steps, 4.00/s, 5 s left, loss 0.71\n");
  progress.update(100, "loss 0.70");
  EXPECT_EQ(take(), "100% 100/100 steps, 4.04/s, 25 s, loss 0.70\n");
  progress.update(100);
  progress.finish();
  EXPECT_EQ(take(), "");
}

TEST_F(ProgressTest, WorkDoneAtOnceHasNoRate) {
  Progress progress(1, "steps", /*quiet=*/false, output(false));
  now_ += 1e-7;
  progress.update(1, "loss 6.41");
  EXPECT_EQ(take(), "100% 1/1 steps, loss 6.41\n");
}

TEST_F(ProgressTest, OnATerminalABarThatFitsItsWidth) {
  for (const int columns : {1, 10, 20, 40, 60, 80, 200}) {
    take();
    Progress progress(1000, "steps", /*quiet=*/false, output(true, columns));
    now_ += 1;
    progress.update(500, "loss 0.71");
    const std::string line = take();
    ASSERT_TRUE(line.starts_with("\r\x1b[K")) << line;
    EXPECT_LT(static_cast<int>(line.size()) - 4, std::max(columns, 6)) << line;
    if (columns == 80) {
      EXPECT_EQ(line.substr(4), " 50% [===============              ] 500/1000 steps, 500/s, 1 s left, loss 0.71");
    }
  }
}

TEST_F(ProgressTest, RedrawsAtMostTenTimesASecond) {
  Progress progress(100000, "steps", /*quiet=*/false, output(true));
  int drawn = 0;
  for (int step = 0; step < 1000; ++step) {
    now_ += 0.001;
    progress.update(step);
    drawn += !take().empty();
  }
  EXPECT_GE(drawn, 9);
  EXPECT_LE(drawn, 11);
}

TEST_F(ProgressTest, ColourOnlyWhereAllowed) {
  Progress plain(10, "images", /*quiet=*/false, output(true, 100, /*colour=*/false));
  plain.update(5);
  EXPECT_THAT(take(), Not(HasSubstr("\x1b[32m")));
  Progress coloured(10, "images", /*quiet=*/false, output(true, 100, /*colour=*/true));
  coloured.update(5);
  EXPECT_THAT(take(), HasSubstr("\x1b[32m="));
}

TEST_F(ProgressTest, MessagesStandAboveTheBar) {
  Progress progress(10, "steps", /*quiet=*/false, output(true));
  progress.message("first");
  EXPECT_EQ(take(), "first\n");
  progress.update(5);
  const std::string bar = take();
  progress.message("validation 0.7");
  EXPECT_EQ(take(), "\r\x1b[Kvalidation 0.7\n" + bar);
}

TEST_F(ProgressTest, QuietWritesNothing) {
  {
    Progress progress(10, "steps", /*quiet=*/true, output(true));
    progress.update(5);
    progress.message("x");
    progress.update(10);
  }
  EXPECT_EQ(take(), "");
}

TEST_F(ProgressTest, AnInterruptedBarLeavesTheCursorOnANewLine) {
  {
    Progress progress(10, "steps", /*quiet=*/false, output(true));
    progress.update(5);
    take();
  }
  EXPECT_EQ(take(), "\n");
}

TEST_F(ProgressTest, ResumedWorkDoesNotCountForTheRate) {
  Progress progress(1000, "steps", /*quiet=*/false, output(false));
  progress.start_at(900);
  now_ += 10;
  progress.update(910);
  EXPECT_EQ(take(), "91% 910/1000 steps, 1.00/s, 1:30 left\n");
}

TEST_F(ProgressTest, AnUnknownTotalShowsCountAndRate) {
  Progress progress(0, "images", /*quiet=*/false, output(false));
  now_ += 10;
  progress.update(25);
  EXPECT_EQ(take(), "25 images, 2.50/s\n");
}

TEST(Duration, InTheShortestForm) {
  EXPECT_EQ(duration(0.2), "0 s");
  EXPECT_EQ(duration(59.4), "59 s");
  EXPECT_EQ(duration(380), "6:20");
  EXPECT_EQ(duration(3723), "1:02:03");
  EXPECT_EQ(duration(1e300), "1000000:00:00");
}

}  // namespace
}  // namespace igpt::cli
