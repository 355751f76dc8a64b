#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace igpt {

/// work(x), of which backward keeps nothing but x: it computes the rest again when it needs it (activation
/// checkpointing; Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"), in the precision of now. `work`
/// depends on x and on parameters alone, whose gradients it accumulates; gradients by torch::autograd::grad are not
/// supported.
at::Tensor recomputed(std::function<at::Tensor(const at::Tensor& x)> work, const at::Tensor& x);

}  // namespace igpt
