#include "igpt/drawing/canvas.h"

#include <dlfcn.h>

#include <string_view>

#include "igpt/error.h"
#include "igpt/formats/ending.h"
#include "src/drawing/canvas_library.h"

namespace igpt::drawing {
namespace {

constexpr const char* kLibrary = "libigpt_canvas.so";  // found by the RUNPATH of what loads it

const CanvasLibrary& load() {
  void* library = dlopen(kLibrary, RTLD_LAZY | RTLD_LOCAL);
  if (!library) throw Error(std::string(dlerror()) + "; build and install again, or install cairo (libcairo2)");
  const auto* loaded = static_cast<const CanvasLibrary*>(dlsym(library, "igpt_canvas"));
  if (!loaded || std::string_view(loaded->version) != IGPT_VERSION)
    throw Error(std::string(kLibrary) + " is of another version than this program; build and install again");
  return *loaded;
}

}  // namespace

std::unique_ptr<Canvas> make_canvas(FileFormat format, int64_t width, int64_t height) {
  static const CanvasLibrary& library = load();
  return std::unique_ptr<Canvas>(library.make_canvas(format, width, height));
}

FileFormat format_of(const std::filesystem::path& path, const std::string& option) {
  const std::string ending = formats::ending_of(path);
  if (ending == ".png") return FileFormat::png;
  if (ending == ".svg") return FileFormat::svg;
  throw UsageError(option + " " + path.string() + ": must end in .png or .svg");
}

}  // namespace igpt::drawing
