#include "igpt/drawing/chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "igpt/drawing/likelihoods.h"
#include "igpt/error.h"
#include "igpt/formats/image_file.h"

// The cache of fonts that fontconfig keeps to the end.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libfontconfig";
}

namespace igpt::drawing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Bytes = std::array<uint8_t, 3>;

constexpr Bytes kBlue{31, 119, 180}, kOrange{230, 112, 8};  // of the first two entries of a legend

int64_t pixels_of(const formats::Image& image, const Bytes& colour) {
  int64_t count = 0;
  for (size_t i = 0; i < image.pixels.size(); i += 3)
    count += std::equal(colour.begin(), colour.end(), image.pixels.begin() + static_cast<std::ptrdiff_t>(i));
  return count;
}

// The mean row of the pixels of a colour below row `top`.
double mean_row(const formats::Image& image, const Bytes& colour, int64_t top) {
  double sum = 0, count = 0;
  for (int64_t y = top; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x) {
      const uint8_t* pixel = &image.pixels[static_cast<size_t>((y * image.width + x) * 3)];
      if (std::equal(colour.begin(), colour.end(), pixel)) sum += static_cast<double>(y), ++count;
    }
  return sum / count;
}

// A loss that falls from 2 to about `end`.
Curve falling(size_t entry, double end, bool thick = true) {
  Curve curve{.points = {}, .entry = entry, .thick = thick};
  for (int step = 1; step <= 100; ++step)
    curve.points.push_back({step * 250.0, end + (2 - end) * std::exp(-step / 3.0)});
  return curve;
}

Chart two_runs() {
  Chart chart{.legend = {"one", "other"}, .line_kinds = {"training", "validation"}};
  chart.panels.push_back({.x_label = "step", .y_label = "loss, nats per pixel"});
  chart.panels[0].curves = {falling(0, 0.7), falling(1, 0.65), falling(0, 0.72, /*thick=*/false)};
  return chart;
}

TEST(Chart, HasItsSizeAndTheColoursOfItsCurves) {
  const auto image = formats::decode_image(draw_chart(two_runs(), FileFormat::png), "chart.png");
  EXPECT_EQ(image.width, 900);
  EXPECT_EQ(image.height, 500);
  EXPECT_GT(pixels_of(image, {255, 255, 255}), 900 * 500 * 8 / 10);
  EXPECT_GT(pixels_of(image, kBlue), 800);
  EXPECT_GT(pixels_of(image, kOrange), 800);
  EXPECT_LT(mean_row(image, kBlue, 60), mean_row(image, kOrange, 60));  // the larger loss lies above

  Chart one = two_runs();
  one.legend.pop_back();
  std::erase_if(one.panels[0].curves, [](const Curve& curve) { return curve.entry == 1; });
  EXPECT_EQ(pixels_of(formats::decode_image(draw_chart(one, FileFormat::png), "one.png"), kOrange), 0);
}

TEST(Chart, NothingReachesTheBorder) {
  Chart chart = two_runs();
  chart.panels.push_back({.x_label = "step", .y_label = "validation accuracy", .curves = {}, .rises = true});
  chart.panels[1].curves = {falling(0, 0.9), falling(1, 0.8)};
  chart.height = 800;
  for (size_t i = 0; i < 30; ++i) chart.legend.push_back(std::string(1 + 13 * i, 'W') + "é");
  const auto image = formats::decode_image(draw_chart(chart, FileFormat::png), "chart.png");
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x)
      if (x < 2 || y < 2 || x >= image.width - 2 || y >= image.height - 2) {
        const size_t at = static_cast<size_t>(y * image.width + x) * 3;
        ASSERT_EQ(image.pixels[at] + image.pixels[at + 1] + image.pixels[at + 2], 3 * 255) << y << ' ' << x;
      }
}

TEST(Chart, IsAnSvgToo) {
  const std::string file = draw_chart(two_runs(), FileFormat::svg);
  EXPECT_THAT(file, AllOf(StartsWith("<?xml"), HasSubstr("<svg"), HasSubstr("width=\"900"), HasSubstr("</svg>")));
}

TEST(Chart, AnyBytesMayBeInALegend) {
  Chart chart = two_runs();
  for (const std::string bytes :
       {"\xff\xfe", "a\nb\x1b[31m", "\xC0\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80", "e\xCC"}) {
    chart.legend[0] = bytes;
    EXPECT_NO_THROW(draw_chart(chart, FileFormat::png)) << bytes;
  }
}

TEST(Chart, APointByItselfIsSeen) {
  Chart chart{.legend = {"one"}};
  chart.panels.push_back({.x_label = "step", .y_label = "loss"});
  chart.panels[0].curves = {{.points = {{10, 0.5}}}};
  const auto image = formats::decode_image(draw_chart(chart, FileFormat::png), "chart.png");
  EXPECT_GT(pixels_of(image, kBlue), 22 * 3 + 10);  // more than in the legend
}

TEST(Chart, AMillionPointsMakeASmallFile) {
  Chart chart{.legend = {"one"}};
  chart.panels.push_back({.x_label = "step", .y_label = "loss"});
  Curve curve{.thick = false};
  for (int i = 0; i < 1'000'000; ++i) curve.points.push_back({i * 1.0, std::sin(i)});
  chart.panels[0].curves = {curve};
  EXPECT_LT(draw_chart(chart, FileFormat::svg).size(), 500'000U);
}

TEST(Chart, ATooSmallPictureIsRefused) {
  Chart chart = two_runs();
  chart.height = 100;
  EXPECT_THROW(draw_chart(chart, FileFormat::png), Error);
}

TEST(YRange, LeavesOutTheFirstLargeLosses) {
  Panel panel{.curves = {falling(0, 0.7, /*thick=*/false)}};
  const auto range = y_range(panel);
  ASSERT_TRUE(range);
  EXPECT_LT(range->low, 0.7);
  EXPECT_GT(range->low, 0.6);
  EXPECT_LT(range->high, 1.5);
  panel.log_y = true;  // which shows all of them
  EXPECT_GT(y_range(panel)->high, 1.6);
  panel.y_max = 1;
  EXPECT_EQ(y_range(panel)->high, 1);
}

TEST(YRange, ShowsEverythingWhereItCan) {
  Panel panel{.curves = {{.points = {{1, 3}, {2, 2}, {3, 1}}}}};
  EXPECT_LE(y_range(panel)->low, 1);
  EXPECT_GE(y_range(panel)->high, 3);
  panel.curves[0].points = {{1, 5}};
  EXPECT_LT(y_range(panel)->low, 5);
  EXPECT_GT(y_range(panel)->high, 5);
  panel.curves[0].points = {{1, -5}, {2, 0}};
  panel.log_y = true;
  EXPECT_FALSE(y_range(panel));
  EXPECT_FALSE(y_range(Panel()));
}

TEST(FormatOf, IsThatOfTheName) {
  EXPECT_EQ(format_of("a.png", "--output"), FileFormat::png);
  EXPECT_EQ(format_of("b/a.SVG", "--output"), FileFormat::svg);
  EXPECT_THROW(format_of("a.pdf", "--output"), UsageError);
  EXPECT_THROW(format_of("png", "--output"), UsageError);
}

TEST(Likelihoods, TheMapHasTheColoursOfItsNats) {
  Likelihoods likelihoods{.side = 2};
  likelihoods.nats_by_pixel = {0, 1, 1, 1};
  likelihoods.nats_per_image = {1, 2, 3, 4, 5, 6};
  const formats::Image red{2, 2, 3, {255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0}};
  for (int64_t i = 0; i < 3; ++i) likelihoods.likeliest.push_back({i, 1.0 + static_cast<double>(i), red});
  likelihoods.least_likely.push_back({5, 6, red});
  const auto image = formats::decode_image(draw_likelihoods(likelihoods, FileFormat::png), "figure.png");
  EXPECT_NEAR(static_cast<double>(pixels_of(image, {68, 1, 84})), 140 * 140, 60);         // a quarter of the map
  EXPECT_NEAR(static_cast<double>(pixels_of(image, {253, 231, 37})), 3 * 140 * 140, 60);  // and the rest
  EXPECT_EQ(pixels_of(image, {255, 0, 0}), 4 * 84 * 84);
}

TEST(MapColour, GoesFromDarkToBright) {
  double last = -1;
  for (double share = 0; share <= 1; share += 0.05) {
    const Colour colour = map_colour(share);
    const double brightness = 0.3 * colour.red + 0.59 * colour.green + 0.11 * colour.blue;
    EXPECT_GT(brightness, last);
    last = brightness;
  }
}

}  // namespace
}  // namespace igpt::drawing
