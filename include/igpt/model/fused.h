#pragma once

#include <memory>
#include <span>

#include "igpt/model/image_gpt.h"
#include "igpt/ops/cpu/fused_step.h"

namespace igpt {

/// The fused kernels for a model of these options, or null where LibTorch's operations are to be used: on another
/// device than the CPU, for models that the kernels do not take, with bf16, and where ops::kernels() asks for the
/// reference.
std::unique_ptr<ops::cpu::FusedStep> make_fused_step(const ImageGPTOptions& options, c10::Device device, bool bf16);

/// All parameters one after the other, (P) float32 on the CPU, in the order of parameter_shapes.
torch::Tensor flat_weights(const ImageGPT& model);

/// The elements of a contiguous CPU tensor. Valid as long as its storage.
template <class T>
std::span<T> elements(const torch::Tensor& tensor) {
  return {tensor.data_ptr<std::remove_const_t<T>>(), static_cast<size_t>(tensor.numel())};
}

}  // namespace igpt
