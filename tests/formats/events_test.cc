#include "igpt/formats/events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "event_files.h"
#include "igpt/error.h"
#include "igpt/formats/png.h"
#include "temporary_folder.h"

namespace igpt::formats {
namespace {

using igpt::testing::fields;
using igpt::testing::load;
using igpt::testing::read_as_tensorboard;
using igpt::testing::read_bytes;
using igpt::testing::records;
using igpt::testing::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(Crc32c, OfTheStandard) {  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
}

TEST(Events, ScalarsAndImagesAreTensorflowEvents) {
  TemporaryFolder folder;
  double now = 1'600'000'000.5;
  EventWriter events(folder.path(), [&] { return now; });
  EXPECT_THAT(events.path().filename().string(), ::testing::StartsWith("events.out.tfevents.1600000000."));
  now += 1;
  events.scalar("val_loss", 0.75, 300);
  const Image image{2, 3, 1, {0, 17, 34, 51, 68, 255}};
  events.image("samples", image, 25'000);
  events.flush();

  const auto list = records(read_bytes(events.path()));
  ASSERT_EQ(list.size(), 3u);
  const auto first = fields(list[0]);
  EXPECT_EQ(load<double>(first[0].bytes), 1'600'000'000.5);
  EXPECT_EQ(first[1].number, 3u);
  EXPECT_EQ(first[1].bytes, "brain.Event:2");

  const auto scalar = fields(list[1]);
  ASSERT_EQ(scalar.size(), 3u);
  EXPECT_EQ(load<double>(scalar[0].bytes), 1'600'000'001.5);
  EXPECT_EQ(scalar[1].integer, 300u);
  EXPECT_EQ(scalar[2].number, 5u);
  const auto value = fields(fields(scalar[2].bytes).at(0).bytes);
  EXPECT_EQ(value[0].bytes, "val_loss");
  EXPECT_EQ(value[1].number, 2u);
  EXPECT_EQ(load<float>(value[1].bytes), 0.75f);

  const auto picture = fields(fields(fields(list[2])[2].bytes).at(0).bytes);
  EXPECT_EQ(fields(list[2])[1].integer, 25'000u);
  EXPECT_EQ(picture[0].bytes, "samples");
  EXPECT_EQ(picture[1].number, 4u);
  const auto content = fields(picture[1].bytes);
  EXPECT_EQ(content[0].integer, 2u);
  EXPECT_EQ(content[1].integer, 3u);
  EXPECT_EQ(content[2].integer, 1u);
  EXPECT_EQ(content[3].bytes, encode_png(image));
}

TEST(Events, TwoWritersOfOneSecondGetTwoFiles) {
  TemporaryFolder folder;
  EventWriter one(folder.path(), [] { return 5.0; }), two(folder.path(), [] { return 5.0; });
  EXPECT_NE(one.path(), two.path());
  EXPECT_THROW(EventWriter(folder / "missing"), Error);
}

// As torch's SummaryWriter(purge_step=...) does it: a SessionLog START behind the version, by which TensorBoard
// discards what earlier files hold of that step and later ones.
TEST(Events, ARestartTakesAwayLaterStepsOfEarlierFiles) {
  TemporaryFolder folder;
  const auto write = [&](double now, int64_t restarts_at, std::vector<std::pair<int64_t, double>> losses) {
    EventWriter events(folder.path(), [&] { return now; });
    if (restarts_at > 0) events.restart(restarts_at);
    for (const auto& [step, loss] : losses) events.scalar("loss", loss, step);
    return events.path();
  };
  write(1'600'000'000, 0, {{50, 1}, {100, 2}, {150, 3}});
  // Within the same second, and with a clock that is behind.
  const auto second = write(1'600'000'000, 101, {{150, 4}, {200, 5}});
  write(1'500'000'000, 151, {{200, 6}});
  EXPECT_THAT(read_as_tensorboard(folder.path()).at("loss"),
              ElementsAre(Pair(50, 1), Pair(100, 2), Pair(150, 4), Pair(200, 6)));

  const auto list = records(read_bytes(second));
  EXPECT_EQ(fields(list.at(0)).at(1).bytes, "brain.Event:2");
  const auto start = fields(list.at(1));
  ASSERT_EQ(start.size(), 3u);
  EXPECT_EQ(start[1].integer, 101u);
  EXPECT_EQ(start[2].number, 7u);
  EXPECT_EQ(start[2].bytes, "\x08\x01");
}

TEST(Events, AreOnTheirWayToTheDiskAtOnce) {
  TemporaryFolder folder;
  EventWriter events(folder.path());
  events.scalar("loss", 1, 1);
  EXPECT_EQ(records(read_bytes(events.path())).size(), 2u);
}

TEST(Events, FullDiskLeavesNoTornRecord) {
  TemporaryFolder folder;
  EventWriter events(folder.path());
  events.scalar("loss", 1, 1);
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  rlimit tight = before;
  tight.rlim_cur = std::filesystem::file_size(events.path()) + 10;
  setrlimit(RLIMIT_FSIZE, &tight);
  EXPECT_THROW(events.scalar("loss", 2, 2), Error);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  events.scalar("loss", 3, 3);
  EXPECT_EQ(records(read_bytes(events.path())).size(), 3u);
}

}  // namespace
}  // namespace igpt::formats
