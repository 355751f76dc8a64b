#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "igpt/formats/stored_tensor.h"
#include "igpt/libtorch.h"
#include "igpt/model/image_gpt_options.h"
#include "igpt/ops/model_shape.h"

namespace igpt {

/// "(16, 32)", "(16,)".
std::string shape_text(const std::vector<int64_t>& sizes);

/// A tensor of a file as float32, which must have these sizes and finite floating-point numbers. `path` and `name`
/// start the message of an igpt::InputError, `needed_by` is what the sizes come from: "the model of its
/// hyper_parameters".
torch::Tensor read_weight(const std::string& path, const std::string& name, const formats::StoredTensor& stored,
                          const std::vector<int64_t>& sizes, const std::string& needed_by);

/// Of all weights, in the order of ImageGPT::parameters().
std::vector<ops::Parameter> parameters_of(const ImageGPTOptions& model);

/// A float32 tensor that views `tensor`, or a contiguous copy of it on the CPU.
formats::StoredTensor stored_weight(const torch::Tensor& tensor);

}  // namespace igpt
