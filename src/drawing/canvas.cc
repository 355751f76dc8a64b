#include "igpt/drawing/canvas.h"

#include "igpt/error.h"
#include "igpt/formats/ending.h"
#include "igpt/shared_library.h"
#include "src/drawing/canvas_library.h"

namespace igpt::drawing {

std::unique_ptr<Canvas> make_canvas(FileFormat format, int64_t width, int64_t height) {
  static const auto& library = functions_of<CanvasLibrary>("libigpt_canvas.so", "igpt_canvas", IGPT_VERSION,
                                                           "; build and install again, or install cairo (libcairo2)");
  return std::unique_ptr<Canvas>(library.make_canvas(format, width, height));
}

FileFormat format_of(const std::filesystem::path& path, const std::string& option) {
  const std::string ending = formats::ending_of(path);
  if (ending == ".png") return FileFormat::png;
  if (ending == ".svg") return FileFormat::svg;
  throw UsageError(option + " " + path.string() + ": must end in .png or .svg");
}

}  // namespace igpt::drawing
