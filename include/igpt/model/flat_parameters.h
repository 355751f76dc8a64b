#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "igpt/ops/model_shape.h"

namespace igpt {

/// Moves the parameters (floating, on one device) into one flat buffer (P), in their order, and makes them views of it.
/// They keep their values.
at::Tensor flatten_in_place(at::TensorList parameters);

/// Views of `flat` (P), one for each parameter.
std::vector<at::Tensor> views_of(const at::Tensor& flat, const std::vector<ops::Parameter>& parameters);

}  // namespace igpt
