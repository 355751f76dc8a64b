#pragma once

#include "igpt/model/options.h"
#include "igpt/ops/cpu/fused_step.h"
#include "igpt/ops/model_shape.h"

namespace igpt {

/// A model's sizes as the CPU's kernels and those of devices take them.
ops::cpu::ModelShape cpu_shape(const ImageGPTOptions& options);
ops::ModelShape device_shape(const ImageGPTOptions& options);

}  // namespace igpt
