#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "igpt/formats/image.h"

namespace igpt::drawing {

/// From 0 to 1 each.
struct Colour {
  double red = 0, green = 0, blue = 0, alpha = 1;
};

struct Point {
  double x = 0, y = 0;
};

struct Box {
  double left = 0, top = 0, width = 0, height = 0;

  double right() const { return left + width; }
  double bottom() const { return top + height; }
};

struct Stroke {
  Colour colour;
  double width = 1;
  std::vector<double> dashes = {};  ///< lengths of lines and gaps in turn; empty: one line
};

enum class Align : uint8_t { left, centre, right };

struct TextStyle {
  double size = 13;  ///< pixels
  Colour colour = {};
  Align align = Align::left;
  bool bold = false;
  bool upwards = false;  ///< reads from below to above
};

enum class FileFormat : uint8_t { png, svg };

/// A white picture to draw on, in pixels from its left upper corner. Text is UTF-8; what is not, is shown as U+FFFD.
class Canvas {
 public:
  virtual ~Canvas() = default;

  virtual double text_width(const std::string& text, const TextStyle& style) = 0;
  /// `at` lies on the text's baseline; style.align says where along it.
  virtual void text(Point at, const std::string& text, const TextStyle& style) = 0;
  virtual void line(std::span<const Point> points, const Stroke& stroke) = 0;
  virtual void disc(Point centre, double radius, Colour colour) = 0;
  virtual void fill(const Box& box, Colour colour) = 0;
  virtual void image(const Box& box, const formats::Image& image) = 0;  ///< its pixels as rectangles
  virtual void clip(const Box& box) = 0;  ///< Until unclip(), nothing is drawn outside of it.
  virtual void unclip() = 0;

  /// The file's bytes. Nothing can be drawn any more. Throws igpt::Error when the picture could not be made.
  virtual std::string finish() = 0;
};

/// Loads libigpt_canvas.so, and with it cairo, on the first call. Throws igpt::Error when it cannot be loaded or there
/// is too little memory for the picture.
std::unique_ptr<Canvas> make_canvas(FileFormat format, int64_t width, int64_t height);

/// By the ending of the file's name. Throws igpt::UsageError "OPTION FILE: must end in .png or .svg".
FileFormat format_of(const std::filesystem::path& path, const std::string& option);

}  // namespace igpt::drawing
