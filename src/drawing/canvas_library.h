#pragma once

#include "igpt/drawing/canvas.h"

namespace igpt::drawing {

/// What libigpt_canvas.so offers, as the symbol `igpt_canvas`.
struct CanvasLibrary {
  const char* version;  ///< of the toolkit; a library of another version is refused
  Canvas* (*make_canvas)(FileFormat format, int64_t width, int64_t height);
};

}  // namespace igpt::drawing
