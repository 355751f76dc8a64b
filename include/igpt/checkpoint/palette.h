#pragma once

#include <string>

#include "igpt/data/palette.h"

namespace igpt {

/// The palette of a checkpoint's tokens: V evenly spaced greys where it names none. Throws igpt::InputError as
/// read_checkpoint does, and where the file lacks its palette.
data::Palette palette_of(const std::string& checkpoint);

}  // namespace igpt
