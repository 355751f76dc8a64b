#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "igpt/drawing/canvas.h"

namespace igpt::drawing {

/// A line of a panel. Points in the order of x, all finite.
struct Curve {
  std::vector<Point> points;
  size_t entry = 0;   ///< of the legend, whose colour it has
  bool thick = true;  ///< with a dot at each point where there is room; otherwise thin and paler
};

/// One pair of axes with its curves.
struct Panel {
  std::string x_label, y_label;
  std::vector<Curve> curves;
  bool log_y = false;
  bool rises = false;                  ///< Better values are larger: the first, bad ones are below, not above.
  std::optional<double> y_min, y_max;  ///< otherwise chosen so that the late part of the curves can be read
};

/// Panels side by side under one legend.
struct Chart {
  int64_t width = 900, height = 500;    ///< pixels
  std::vector<std::string> legend;      ///< one entry a colour
  std::vector<std::string> line_kinds;  ///< what thin and thick lines are, in this order; empty: not said
  std::vector<Panel> panels;
};

/// The values that the axis of a panel shows. Without the first, far larger values of a loss (smaller ones of a panel
/// that rises), where they would press everything else together. Nothing where no point can be shown.
struct Range {
  double low = 0, high = 1;
};
std::optional<Range> y_range(const Panel& panel);

/// Draws the chart; returns the file's bytes. Throws as make_canvas, and igpt::Error for a chart without room for its
/// panels.
std::string draw_chart(const Chart& chart, FileFormat format);

}  // namespace igpt::drawing
