#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace igpt::ops {

/// A model's parameters one after the other in one flat buffer (P): a copy.
at::Tensor concatenated(at::TensorList parameters);

/// Moves the parameters (floating, on one device) into one flat buffer (P), in their order, and makes them views of it,
/// so that an update, a norm or a reduction over all of them is a single operation. They keep their values.
at::Tensor flatten_in_place(at::TensorList parameters);

/// Views of `flat` (P), shaped as the parameters one after the other.
std::vector<at::Tensor> views_of(const at::Tensor& flat, at::TensorList parameters);

}  // namespace igpt::ops
