#pragma once

#include "igpt/check/check.h"
#include "igpt/checkpoint/checkpoint_info.h"
#include "igpt/checkpoint/checkpoint_palette.h"
#include "igpt/checkpoint/convert.h"
#include "igpt/probe/probe.h"
#include "igpt/sampling/animate.h"
#include "igpt/sampling/complete.h"
#include "igpt/training/evaluate.h"
#include "igpt/training/plan.h"
#include "igpt/training/run_folder.h"
#include "igpt/training/train_options.h"

namespace igpt {

/// The functions of the library libigpt.so, which contains everything that needs LibTorch. The programs load it only
/// when there is work to do: a program linked to LibTorch takes 0.2 s to print its help.
struct Commands {
  const char* version;  ///< of the toolkit; a library of another version is refused
  decltype(&training::train) train;
  decltype(&training::settings_of_run) settings_of_run;
  decltype(&training::checkpoint_to_resume) checkpoint_to_resume;
  decltype(&training::configuration_of) configuration_of;
  decltype(&training::plan_training) plan_training;
  decltype(&training::evaluate) evaluate;
  decltype(&igpt::check_kernels) check;
  decltype(&sampling::complete) complete;
  decltype(&sampling::animate) animate;
  decltype(&igpt::palette_of) palette_of;
  decltype(&probe::run_probes) probe;
  decltype(&igpt::describe_checkpoint) describe_checkpoint;
  decltype(&igpt::convert) convert;
};

/// Loads the library on the first call. Throws igpt::Error when it cannot be loaded.
const Commands& commands();

}  // namespace igpt
