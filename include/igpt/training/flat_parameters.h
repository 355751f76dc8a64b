#pragma once

#include <torch/torch.h>

#include <vector>

namespace igpt::training {

/// Moves the parameters (floating, on one device) into one flat buffer (P), in their order, and makes them views of it,
/// so that an update, a norm or a reduction over all of them is a single operation. They keep their values.
torch::Tensor flatten_in_place(std::vector<torch::Tensor>& parameters);

/// Views of `flat` (P), shaped as the parameters one after the other.
std::vector<torch::Tensor> views_of(const torch::Tensor& flat, const std::vector<torch::Tensor>& parameters);

}  // namespace igpt::training
