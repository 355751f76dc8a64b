#pragma once

#include <string>

#include "igpt/data/palette.h"

namespace igpt {

/// The palette of a checkpoint's tokens; V evenly spaced greys where the file names none. Throws igpt::InputError as
/// read_checkpoint does, and when the file lacks the palette that it used.
data::Palette palette_of(const std::string& checkpoint);

}  // namespace igpt
