#include <cairo-svg.h>
#include <cairo.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

#include "igpt/error.h"
#include "igpt/limits.h"
#include "src/drawing/canvas_library.h"

namespace igpt::drawing {
namespace {

constexpr const char* kFont = "sans-serif";

// Keeps well-formed UTF-8 (cairo refuses a whole text for one wrong byte) and replaces other bytes and control
// characters.
std::string shown(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t length = first < 0x80   ? 1
                          : first < 0xC2 ? 0
                          : first < 0xE0 ? 2
                          : first < 0xF0 ? 3
                          : first < 0xF5 ? 4
                                         : 0;
    bool good = length > 0 && i + length <= text.size() && first >= 0x20 && first != 0x7F;
    uint32_t code = length == 1 ? first : first & (0x7FU >> length);
    for (size_t k = 1; good && k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      good = (next & 0xC0U) == 0x80;
      code = code << 6 | (next & 0x3FU);
    }
    constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (good)
      good = code >= kSmallest[length] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF) &&
             (code & 0xFFFEU) != 0xFFFE && (code < 0xFDD0 || code > 0xFDEF);
    result += good ? text.substr(i, length) : kReplacement;
    i += good ? length : 1;
  }
  return result;
}

cairo_status_t append(void* bytes, const unsigned char* data, unsigned int count) {
  try {
    static_cast<std::string*>(bytes)->append(reinterpret_cast<const char*>(data), count);
    return CAIRO_STATUS_SUCCESS;
  } catch (...) {
    return CAIRO_STATUS_NO_MEMORY;
  }
}

void check(cairo_status_t status) {
  if (status == CAIRO_STATUS_NO_MEMORY) throw Error("out of memory for the picture" + more_memory());
  if (status != CAIRO_STATUS_SUCCESS)
    throw Error(std::string("the picture cannot be drawn: cairo: ") + cairo_status_to_string(status));
}

class CairoCanvas final : public Canvas {
 public:
  CairoCanvas(FileFormat format, int64_t width, int64_t height) : format_(format) {
    surface_ = format == FileFormat::svg
                   ? cairo_svg_surface_create_for_stream(append, &bytes_, static_cast<double>(width),
                                                         static_cast<double>(height))
                   : cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(width), static_cast<int>(height));
    if (format == FileFormat::svg) cairo_svg_surface_set_document_unit(surface_, CAIRO_SVG_UNIT_PX);
    context_ = cairo_create(surface_);
    const auto status = cairo_status(context_);
    if (status != CAIRO_STATUS_SUCCESS) release();
    check(status);
    fill({0, 0, static_cast<double>(width), static_cast<double>(height)}, {1, 1, 1});
    cairo_set_line_join(context_, CAIRO_LINE_JOIN_ROUND);
  }
  CairoCanvas(const CairoCanvas&) = delete;
  CairoCanvas& operator=(const CairoCanvas&) = delete;
  ~CairoCanvas() override { release(); }

  double text_width(const std::string& text, const TextStyle& style) override {
    choose_font(style);
    cairo_text_extents_t extents;
    cairo_text_extents(context_, shown(text).c_str(), &extents);
    return extents.x_advance;
  }

  void text(Point at, const std::string& text, const TextStyle& style) override {
    const double width = text_width(text, style);
    const double before = style.align == Align::left ? 0 : style.align == Align::centre ? width / 2 : width;
    cairo_save(context_);
    cairo_translate(context_, at.x, at.y);
    if (style.upwards) cairo_rotate(context_, -std::numbers::pi / 2);
    set(style.colour);
    cairo_move_to(context_, -before, 0);
    cairo_show_text(context_, shown(text).c_str());
    cairo_restore(context_);
  }

  void line(std::span<const Point> points, const Stroke& stroke) override {
    cairo_new_path(context_);
    for (const Point& point : points) cairo_line_to(context_, point.x, point.y);
    set(stroke.colour);
    cairo_set_line_width(context_, stroke.width);
    cairo_set_dash(context_, stroke.dashes.data(), static_cast<int>(stroke.dashes.size()), /*offset=*/0);
    cairo_stroke(context_);
  }

  void disc(Point centre, double radius, Colour colour) override {
    cairo_new_path(context_);
    cairo_arc(context_, centre.x, centre.y, radius, 0, 2 * std::numbers::pi);
    set(colour);
    cairo_fill(context_);
  }

  void fill(const Box& box, Colour colour) override {
    cairo_rectangle(context_, box.left, box.top, box.width, box.height);
    set(colour);
    cairo_fill(context_);
  }

  void image(const Box& box, const formats::Image& image) override {
    if (image.width < 1 || image.height < 1) return;
    cairo_surface_t* picture =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(image.width), static_cast<int>(image.height));
    if (cairo_surface_status(picture) == CAIRO_STATUS_SUCCESS) copy_pixels(image, picture);
    cairo_save(context_);
    cairo_translate(context_, box.left, box.top);
    cairo_scale(context_, box.width / static_cast<double>(image.width), box.height / static_cast<double>(image.height));
    cairo_set_source_surface(context_, picture, 0, 0);
    cairo_pattern_set_filter(cairo_get_source(context_), CAIRO_FILTER_NEAREST);
    cairo_rectangle(context_, 0, 0, static_cast<double>(image.width), static_cast<double>(image.height));
    cairo_fill(context_);
    cairo_restore(context_);
    cairo_surface_destroy(picture);
  }

  void clip(const Box& box) override {
    cairo_save(context_);
    cairo_rectangle(context_, box.left, box.top, box.width, box.height);
    cairo_clip(context_);
  }
  void unclip() override { cairo_restore(context_); }

  std::string finish() override {
    check(cairo_status(context_));
    if (format_ == FileFormat::png) check(cairo_surface_write_to_png_stream(surface_, append, &bytes_));
    cairo_surface_finish(surface_);
    check(cairo_surface_status(surface_));
    return std::move(bytes_);
  }

 private:
  void release() {
    cairo_destroy(context_);
    cairo_surface_destroy(surface_);
  }

  void set(const Colour& colour) {
    cairo_set_source_rgba(context_, colour.red, colour.green, colour.blue, colour.alpha);
  }

  void choose_font(const TextStyle& style) {
    cairo_select_font_face(context_, kFont, CAIRO_FONT_SLANT_NORMAL,
                           style.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(context_, style.size);
  }

  static void copy_pixels(const formats::Image& image, cairo_surface_t* picture) {
    const auto channels = static_cast<size_t>(image.channels);
    const uint8_t* from = image.pixels.data();
    unsigned char* const rows = cairo_image_surface_get_data(picture);
    const int stride = cairo_image_surface_get_stride(picture);
    for (int64_t y = 0; y < image.height; ++y)
      for (int64_t x = 0; x < image.width; ++x, from += channels)
        reinterpret_cast<uint32_t*>(rows + y * stride)[x] =
            uint32_t{from[0]} << 16 | uint32_t{from[channels / 2]} << 8 | from[channels - 1];
    cairo_surface_mark_dirty(picture);
  }

  const FileFormat format_;
  std::string bytes_;
  cairo_surface_t* surface_ = nullptr;
  cairo_t* context_ = nullptr;
};

Canvas* make(FileFormat format, int64_t width, int64_t height) {
  return new CairoCanvas(format, width, height);
}

}  // namespace
}  // namespace igpt::drawing

extern "C" const igpt::drawing::CanvasLibrary igpt_canvas;

const igpt::drawing::CanvasLibrary igpt_canvas = {IGPT_VERSION, igpt::drawing::make};
