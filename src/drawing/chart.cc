#include "igpt/drawing/chart.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "igpt/drawing/ticks.h"
#include "igpt/error.h"

namespace igpt::drawing {
namespace {

// Ten colours that are told apart by eye (Tableau 10), then the same with dashes.
constexpr Colour of_bytes(double red, double green, double blue) {
  return {red / 255, green / 255, blue / 255};
}
constexpr std::array<Colour, 10> kColours{of_bytes(31, 119, 180), of_bytes(230, 112, 8),   of_bytes(44, 148, 44),
                                          of_bytes(214, 39, 40),  of_bytes(127, 84, 174),  of_bytes(130, 79, 67),
                                          of_bytes(214, 91, 174), of_bytes(101, 101, 101), of_bytes(158, 158, 23),
                                          of_bytes(15, 168, 184)};
const std::vector<std::vector<double>> kDashes{{}, {7, 3}, {2, 2}, {9, 3, 2, 3}};
constexpr Colour kInk{0.13, 0.13, 0.13}, kGrid{0.88, 0.88, 0.88}, kAxis{0.45, 0.45, 0.45};
constexpr double kMargin = 14, kRight = 28, kText = 13, kLine = 20, kSwatch = 22;
constexpr double kThin = 1, kThick = 2, kThinAlpha = 0.5, kDot = 3;
constexpr double kLeast = 80;  // pixels of a panel's area, at least

const std::vector<double>& dashes_of(size_t entry) {
  return kDashes[entry / kColours.size() % kDashes.size()];
}

Colour colour_of(size_t entry, double alpha = 1) {
  Colour colour = kColours[entry % kColours.size()];
  colour.alpha = alpha;
  return colour;
}

// The text without its middle where it is too wide.
std::string shortened(Canvas& canvas, const std::string& text, double width, const TextStyle& style) {
  if (canvas.text_width(text, style) <= width) return text;
  const auto is_inside = [&](size_t place) {  // of a character
    return place < text.size() && (static_cast<unsigned char>(text[place]) & 0xC0U) == 0x80;
  };
  for (size_t kept = text.size() / 2; kept > 0; --kept) {
    size_t head = kept, tail = text.size() - kept;
    while (head > 0 && is_inside(head)) --head;
    while (is_inside(tail)) ++tail;
    const std::string cut = text.substr(0, head) + "…" + text.substr(tail);
    if (canvas.text_width(cut, style) <= width) return cut;
  }
  return "…";
}

// The values without the share `share` of them that is smallest begin at this place.
size_t place_after(const std::vector<double>& sorted, double share) {
  return static_cast<size_t>(share * static_cast<double>(sorted.size() - 1));
}

// The middle of the pixel in which it lies: where a thin line is sharp.
double sharp(double place) {
  return std::floor(place) + 0.5;
}

// Where values lie on the screen.
struct Axes {
  Box area;
  double x_high = 1;
  Range y;
  bool log_y = false;

  double x(double value) const { return area.left + value / x_high * area.width; }
  double y_of(double value) const {
    const auto scaled = [&](double v) { return log_y ? std::log10(v) : v; };
    return area.bottom() - (scaled(value) - scaled(y.low)) / (scaled(y.high) - scaled(y.low)) * area.height;
  }
};

// The line on the screen. Of many points in one column of pixels the first, the extremes and the last will do.
std::vector<Point> screen_line(const Curve& curve, const Axes& axes) {
  constexpr size_t kEnough = 4000;
  std::vector<Point> line;
  for (const Point& point : curve.points)
    if (!axes.log_y || point.y > 0) line.push_back({axes.x(point.x), axes.y_of(point.y)});
  if (line.size() <= kEnough) return line;
  std::vector<Point> few;
  for (size_t begin = 0, end = 0; begin < line.size(); begin = end) {
    while (end < line.size() && std::floor(line[end].x) == std::floor(line[begin].x)) ++end;
    const auto first = line.begin() + static_cast<std::ptrdiff_t>(begin),
               last = line.begin() + static_cast<std::ptrdiff_t>(end);
    const auto [least, most] = std::minmax_element(first, last, [](auto& a, auto& b) { return a.y < b.y; });
    few.push_back(*first);
    few.push_back(least < most ? *least : *most);
    few.push_back(least < most ? *most : *least);
    few.push_back(*(last - 1));
  }
  return few;
}

// The line ends at the frame; a dot may reach over it, where its middle is inside.
void draw_curve(Canvas& canvas, const Curve& curve, const Axes& axes, bool has_room) {
  const auto line = screen_line(curve, axes);
  const Colour colour = colour_of(curve.entry, curve.thick ? 1 : kThinAlpha);
  canvas.clip(axes.area);
  if (line.size() > 1) canvas.line(line, {colour, curve.thick ? kThick : kThin, dashes_of(curve.entry)});
  canvas.unclip();
  if (line.size() > 1 && !(curve.thick && has_room)) return;
  for (const Point& point : line)
    if (point.y >= axes.area.top && point.y <= axes.area.bottom()) canvas.disc(point, kDot, colour);
}

// The axis's unit where its numbers would be long.
struct Unit {
  double size = 1;
  const char* words = "";
};
Unit unit_of(double largest) {
  if (largest >= 2e9) return {1e9, ", billions"};
  if (largest >= 2e6) return {1e6, ", millions"};
  return {};
}

double largest_x(const Panel& panel) {
  double largest = 0;
  for (const Curve& curve : panel.curves)
    for (const Point& point : curve.points) largest = std::max(largest, point.x);
  return largest > 0 ? largest : 1;
}

void draw_panel(Canvas& canvas, const Panel& panel, const Box& box) {
  const TextStyle of_ticks{.size = kText - 1, .colour = kInk}, of_labels{.size = kText, .colour = kInk};
  const auto range = y_range(panel);
  if (!range) throw Error("a chart has nothing to show");
  const double x_high = largest_x(panel);
  const Unit unit = unit_of(x_high);
  const double height = box.height - 2 * kLine - 8;
  if (height < kLeast) throw Error("the picture is too small; choose a larger --width and --height");
  const auto most = static_cast<int64_t>(std::clamp(height / 40, 2.0, 12.0));
  const auto y_ticks = panel.log_y ? log_ticks(range->low, range->high, most) : ticks(range->low, range->high, most);
  const auto y_labels = labels(y_ticks);
  double widest = 0;
  for (const auto& label : y_labels) widest = std::max(widest, canvas.text_width(label, of_ticks));

  Axes axes{.x_high = x_high, .y = *range, .log_y = panel.log_y};
  const double left = box.left + kLine + widest + 8;
  axes.area = {left, box.top + 6, box.right() - left, height};
  if (axes.area.width < kLeast) throw Error("the picture is too small; choose a larger --width and --height");
  const double at_least = 1.6 * canvas.text_width(with_commas(std::llround(x_high / unit.size)), of_ticks);
  const auto most_x = static_cast<int64_t>(std::clamp(axes.area.width / std::max(at_least, 60.0), 1.0, 12.0));
  auto x_ticks = ticks(0, x_high / unit.size, most_x);
  const auto x_labels = labels(x_ticks);

  for (const double tick : y_ticks)
    canvas.line(
        std::array{Point{axes.area.left, sharp(axes.y_of(tick))}, Point{axes.area.right(), sharp(axes.y_of(tick))}},
        {kGrid});
  for (const double tick : x_ticks) {
    const double x = sharp(axes.x(tick * unit.size));
    canvas.line(std::array{Point{x, axes.area.top}, Point{x, axes.area.bottom()}}, {kGrid});
  }
  const bool has_room = std::ranges::all_of(panel.curves, [&](const Curve& curve) {
    return !curve.thick || static_cast<double>(curve.points.size()) * 3 * kDot < axes.area.width;
  });
  for (const bool thick : {false, true})
    for (const Curve& curve : panel.curves)
      if (curve.thick == thick) draw_curve(canvas, curve, axes, has_room);
  canvas.line(
      std::array{Point{sharp(axes.area.left), axes.area.top}, Point{sharp(axes.area.left), sharp(axes.area.bottom())},
                 Point{axes.area.right(), sharp(axes.area.bottom())}},
      {kAxis});

  TextStyle style = of_ticks;
  style.align = Align::right;
  for (size_t i = 0; i < y_ticks.size(); ++i)
    canvas.text({axes.area.left - 6, axes.y_of(y_ticks[i]) + 0.35 * style.size}, y_labels[i], style);
  style.align = Align::centre;
  for (size_t i = 0; i < x_ticks.size(); ++i) {
    const double half = canvas.text_width(x_labels[i], style) / 2;  // the last one may not leave the picture
    const double x = std::min(axes.x(x_ticks[i] * unit.size), box.right() + kRight - 2 - half);
    canvas.text({x, axes.area.bottom() + style.size + 5}, x_labels[i], style);
  }
  style = of_labels;
  style.align = Align::centre;
  canvas.text({axes.area.left + axes.area.width / 2, axes.area.bottom() + 2 * kLine}, panel.x_label + unit.words,
              style);
  style.upwards = true;
  canvas.text({box.left + kText, axes.area.top + axes.area.height / 2}, panel.y_label, style);
}

// Entries from left to right in as many rows as they need; returns the height.
double draw_legend(Canvas& canvas, const Chart& chart) {
  const TextStyle style{.size = kText, .colour = kInk};
  const double right = static_cast<double>(chart.width) - kMargin;
  constexpr double kGap = 22, kLongest = 420;
  double x = kMargin, y = kMargin;
  const auto place = [&](double width) {
    if (x > kMargin && x + width > right) x = kMargin, y += kLine;
    const Point at{x, y};
    x += width + kGap;
    return at;
  };
  const auto entry = [&](const std::string& label, const Stroke& stroke) {
    const std::string text = shortened(canvas, label, std::min(kLongest, right - kMargin - kSwatch - 6), style);
    const Point at = place(kSwatch + 6 + canvas.text_width(text, style));
    const double middle = sharp(at.y + kLine / 2);
    canvas.line(std::array{Point{at.x, middle}, Point{at.x + kSwatch, middle}}, stroke);
    canvas.text({at.x + kSwatch + 6, middle + 0.36 * style.size}, text, style);
  };
  for (size_t i = 0; i < chart.legend.size(); ++i) entry(chart.legend[i], {colour_of(i), 3, dashes_of(i)});
  for (size_t i = 0; i < chart.line_kinds.size(); ++i)
    entry(chart.line_kinds[i],
          {i == 0 ? Colour{0.3, 0.3, 0.3, kThinAlpha + 0.2} : Colour{0.3, 0.3, 0.3}, i == 0 ? kThin : kThick + 0.5});
  return y - kMargin + kLine;
}

}  // namespace

std::optional<Range> y_range(const Panel& panel) {
  constexpr double kLeftOut = 0.03;  // of a curve's values, at most
  std::optional<Range> all, most;
  const auto extend = [](std::optional<Range>& range, double low, double high) {
    range = range ? Range{std::min(range->low, low), std::max(range->high, high)} : Range{low, high};
  };
  for (const Curve& curve : panel.curves) {
    std::vector<double> values;
    for (const Point& point : curve.points)
      if (!panel.log_y || point.y > 0) values.push_back(point.y);
    if (values.empty()) continue;
    std::ranges::sort(values);
    extend(all, values.front(), values.back());
    extend(most, panel.rises ? values[place_after(values, kLeftOut)] : values.front(),
           panel.rises ? values.back() : values[values.size() - 1 - place_after(values, kLeftOut)]);
  }
  if (!all) return {};
  // Worth its while only where much is gained.
  Range range = *all;
  if (!panel.log_y && all->high - all->low > 1.4 * (most->high - most->low)) range = *most;
  const double ratio = std::pow(range.high / range.low, 0.04);
  const double gap =
      range.high > range.low ? 0.04 * (range.high - range.low) : std::max(std::abs(range.low), 1.0) * 0.05;
  if (panel.log_y)
    range = ratio > 1 ? Range{range.low / ratio, range.high * ratio} : Range{range.low / 1.1, range.high * 1.1};
  else
    range = {range.low >= 0 ? std::max(0.0, range.low - gap) : range.low - gap, range.high + gap};
  if (panel.y_min) range.low = *panel.y_min;
  if (panel.y_max) range.high = *panel.y_max;
  const bool has_points = range.low <= all->high && range.high >= all->low;
  if (range.high <= range.low || !has_points || !std::isfinite(range.high - range.low) ||
      (panel.log_y && range.low <= 0))
    return {};
  return range;
}

std::string draw_chart(const Chart& chart, FileFormat format) {
  const auto canvas = make_canvas(format, chart.width, chart.height);
  const double top = kMargin + draw_legend(*canvas, chart);
  const auto count = static_cast<double>(chart.panels.size());
  const double width = static_cast<double>(chart.width) - kMargin - kRight, gap = 24;
  const double each = (width - (count - 1) * gap) / count;
  for (size_t i = 0; i < chart.panels.size(); ++i)
    draw_panel(*canvas, chart.panels[i],
               {kMargin + static_cast<double>(i) * (each + gap), top, each,
                static_cast<double>(chart.height) - top - kMargin + 4});
  return canvas->finish();
}

}  // namespace igpt::drawing
