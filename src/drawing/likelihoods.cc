#include "igpt/drawing/likelihoods.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "igpt/drawing/ticks.h"

namespace igpt::drawing {
namespace {

constexpr Colour kInk{0.13, 0.13, 0.13}, kPale{0.45, 0.45, 0.45}, kGrid{0.88, 0.88, 0.88}, kBars{0.122, 0.467, 0.706};
constexpr double kMargin = 20, kGap = 8, kTile = 84;  // pixels
constexpr int64_t kInRow = 10;
constexpr double kWidth = 2 * kMargin + kInRow * kTile + (kInRow - 1) * kGap;
constexpr double kHeading = 26, kCaption = 46, kMap = 280, kBelow = 46;
constexpr double kRow = kHeading + kTile + kCaption;
constexpr double kHeight = kMargin + 2 * kRow + 10 + kHeading + kMap + kBelow + 6;
constexpr TextStyle kTitle{.size = 14, .colour = kInk, .bold = true}, kPlain{.size = 12, .colour = kInk},
    kNote{.size = 11, .colour = kPale};

std::string text_of(const char* format, double number) {
  char text[40];
  (void)std::snprintf(text, sizeof text, format, number);
  return text;
}

TextStyle aligned(TextStyle style, Align align) {
  style.align = align;
  return style;
}

void draw_row(Canvas& canvas, double top, const std::string& title, const std::vector<Likelihoods::Ranked>& images) {
  canvas.text({kMargin, top + 14}, title, kTitle);
  for (size_t i = 0; i < images.size(); ++i) {
    const double left = kMargin + static_cast<double>(i) * (kTile + kGap), middle = left + kTile / 2;
    const Box box{left, top + kHeading, kTile, kTile};
    canvas.image(box, images[i].image);
    canvas.text({middle, box.bottom() + 15}, text_of("%.1f", images[i].nats), aligned(kPlain, Align::centre));
    canvas.text({middle, box.bottom() + 29}, "no. " + std::to_string(images[i].index), aligned(kNote, Align::centre));
  }
}

struct Extremes {
  double low, high;
};

Extremes extremes_of(const std::vector<double>& values) {
  const auto [least, most] = std::ranges::minmax(values);
  return {least, most > least ? most : least + 1};
}

uint8_t byte_of(double share) {
  return static_cast<uint8_t>(std::lround(255 * share));
}

// The map with the numbers of rows and columns, and beside it what its colours mean.
void draw_map(Canvas& canvas, const Likelihoods& likelihoods, const Box& box) {
  const auto [low, high] = extremes_of(likelihoods.nats_by_pixel);
  formats::Image map{likelihoods.side, likelihoods.side, 3, {}};
  for (const double nats : likelihoods.nats_by_pixel) {
    const Colour colour = map_colour((nats - low) / (high - low));
    for (const double channel : {colour.red, colour.green, colour.blue}) map.pixels.push_back(byte_of(channel));
  }
  canvas.image(box, map);
  const double pixel = box.width / static_cast<double>(likelihoods.side);
  auto places = ticks(0, static_cast<double>(likelihoods.side - 1), 7);
  std::erase_if(places, [](double place) { return place != std::round(place); });  // of small images
  const auto names = labels(places);
  for (size_t i = 0; i < places.size(); ++i) {
    const double at = (places[i] + 0.5) * pixel;
    canvas.text({box.left + at, box.bottom() + 16}, names[i], aligned(kPlain, Align::centre));
    canvas.text({box.left - 6, box.top + at + 4}, names[i], aligned(kPlain, Align::right));
  }
  canvas.text({box.left + box.width / 2, box.bottom() + 36}, "column", aligned(kPlain, Align::centre));
  TextStyle upwards = aligned(kPlain, Align::centre);
  upwards.upwards = true;
  canvas.text({box.left - 34, box.top + box.height / 2}, "row", upwards);

  constexpr int64_t kSteps = 128;
  const Box bar{box.right() + 16, box.top, 14, box.height};
  formats::Image scale{kSteps, 1, 3, {}};
  for (int64_t i = 0; i < kSteps; ++i) {
    const Colour colour = map_colour(1 - (static_cast<double>(i) + 0.5) / kSteps);
    for (const double channel : {colour.red, colour.green, colour.blue}) scale.pixels.push_back(byte_of(channel));
  }
  canvas.image(bar, scale);
  const auto values = ticks(low, high, 8);
  const auto texts = labels(values);
  for (size_t i = 0; i < values.size(); ++i) {
    const double y = bar.bottom() - (values[i] - low) / (high - low) * bar.height;
    canvas.line(std::array{Point{bar.right(), y}, Point{bar.right() + 4, y}}, {kPale});
    canvas.text({bar.right() + 7, y + 4}, texts[i], kPlain);
  }
}

// How many images have how many nats.
void draw_spread(Canvas& canvas, const std::vector<double>& nats, const Box& box) {
  constexpr int64_t kBins = 50;
  const auto [low, high] = extremes_of(nats);
  std::array<int64_t, kBins> counts{};
  for (const double value : nats) {
    const auto bin = static_cast<int64_t>((value - low) / (high - low) * kBins);
    ++counts[static_cast<size_t>(std::clamp<int64_t>(bin, 0, kBins - 1))];
  }
  const double most = static_cast<double>(std::max<int64_t>(1, *std::ranges::max_element(counts))) * 1.05;
  const auto y_of = [&](double count) { return box.bottom() - count / most * box.height; };
  auto levels = ticks(0, most, 6);
  std::erase_if(levels, [](double level) { return level != std::floor(level); });
  const auto level_names = labels(levels);
  for (size_t i = 0; i < levels.size(); ++i) {
    canvas.line(std::array{Point{box.left, y_of(levels[i])}, Point{box.right(), y_of(levels[i])}}, {kGrid});
    canvas.text({box.left - 6, y_of(levels[i]) + 4}, level_names[i], aligned(kPlain, Align::right));
  }
  const double width = box.width / kBins;
  for (int64_t bin = 0; bin < kBins; ++bin) {
    const double top = y_of(static_cast<double>(counts[static_cast<size_t>(bin)]));
    canvas.fill({box.left + static_cast<double>(bin) * width, top, width - 1, box.bottom() - top}, kBars);
  }
  canvas.line(std::array{Point{box.left, box.bottom()}, Point{box.right(), box.bottom()}}, {kPale});
  const auto places = ticks(low, high, 6);
  const auto names = labels(places);
  for (size_t i = 0; i < places.size(); ++i) {
    const double x = box.left + (places[i] - low) / (high - low) * box.width;
    canvas.line(std::array{Point{x, box.bottom()}, Point{x, box.bottom() + 4}}, {kPale});
    canvas.text({x, box.bottom() + 17}, names[i], aligned(kPlain, Align::centre));
  }
  canvas.text({box.left + box.width / 2, box.bottom() + 36}, "nats of an image", aligned(kPlain, Align::centre));
}

}  // namespace

Colour map_colour(double share) {
  constexpr std::array<std::array<double, 3>, 9> kViridis{{{68, 1, 84},
                                                           {71, 44, 122},
                                                           {59, 81, 139},
                                                           {44, 113, 142},
                                                           {33, 144, 141},
                                                           {39, 173, 129},
                                                           {92, 200, 99},
                                                           {170, 220, 50},
                                                           {253, 231, 37}}};
  const double place = std::clamp(share, 0.0, 1.0) * (kViridis.size() - 1);
  const auto first = std::min(static_cast<size_t>(place), kViridis.size() - 2);
  const double part = place - static_cast<double>(first);
  const auto channel = [&](size_t c) {
    return (kViridis[first][c] * (1 - part) + kViridis[first + 1][c] * part) / 255;
  };
  return {channel(0), channel(1), channel(2)};
}

std::string draw_likelihoods(const Likelihoods& likelihoods, FileFormat format) {
  const auto canvas = make_canvas(format, std::llround(kWidth), std::llround(kHeight));
  const auto count = std::ssize(likelihoods.nats_per_image);
  draw_row(*canvas, kMargin, "Likeliest of " + with_commas(count) + (count == 1 ? " image" : " images") + ", nats",
           likelihoods.likeliest);
  if (!likelihoods.least_likely.empty())
    draw_row(*canvas, kMargin + kRow, "Least likely, nats", likelihoods.least_likely);
  const double top = kMargin + 2 * kRow + 10;
  canvas->text({kMargin, top + 14}, "Nats by pixel, mean of all images", kTitle);
  const Box map{kMargin + 44, top + kHeading, kMap, kMap};
  draw_map(*canvas, likelihoods, map);
  const double left = map.right() + 150;
  canvas->text({left - 50, top + 14}, "Number of images by their nats", kTitle);
  draw_spread(*canvas, likelihoods.nats_per_image, {left, map.top, kWidth - kMargin - left, kMap});
  return canvas->finish();
}

}  // namespace igpt::drawing
