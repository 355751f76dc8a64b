#pragma once

#include "igpt/checkpoint/palette.h"
#include "igpt/sampling/options.h"
#include "igpt/training/options.h"

namespace igpt {

/// What the programs do with LibTorch. It lies in the library libigpt.so, which they load when there is work: a program
/// linked to LibTorch takes 0.2 s to print its help.
struct Commands {
  const char* version;  ///< of the toolkit; a library of another version is not used
  decltype(&training::train) train;
  decltype(&training::settings_of_run) settings_of_run;
  decltype(&training::evaluate) evaluate;
  decltype(&sampling::complete) complete;
  decltype(&sampling::animate) animate;
  decltype(&igpt::palette_of) palette_of;
};

/// Loads the library at the first call. Throws igpt::Error when it cannot be loaded.
const Commands& commands();

}  // namespace igpt
