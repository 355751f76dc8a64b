#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "igpt/checkpoint/to_torch.h"
#include "igpt/formats/torch_file.h"
#include "igpt/libtorch.h"
#include "igpt/model/image_gpt.h"

namespace igpt::testing {

/// tests/golden/model/NAME.pt: what PyTorch computes (tests/golden/make_golden_model.py).
class Golden {
 public:
  explicit Golden(const std::string& name)
      : root_(formats::read_torch_file(std::filesystem::path(IGPT_GOLDEN) / "model" / (name + ".pt"))) {}

  ImageGPTOptions options() const {
    const auto& dict = at("options");
    const auto get = [&](const char* option) { return dict.find(option)->as_int().value(); };
    ImageGPTOptions options{.embed_dim = get("embed_dim"),
                            .num_heads = get("num_heads"),
                            .num_layers = get("num_layers"),
                            .num_pixels = get("num_pixels"),
                            .num_vocab = get("num_vocab"),
                            .num_classes = get("num_classes")};
    if (const auto* arch = dict.find("arch")) options.arch = *arch->as_string();
    if (shape_of(options).is_plane()) options.neighbours = get("neighbours");
    if (const auto* rank = dict.find("table_rank")) options.table_rank = rank->as_int().value();
    if (const auto* taps = dict.find("conv_taps")) options.conv_taps = taps->as_int().value();
    if (const auto* final_norm = dict.find("final_norm")) options.final_norm = final_norm->as_bool().value();
    return options;
  }

  double number(const char* name) const { return at(name).as_double().value(); }
  torch::Tensor tensor(const char* name) const { return to_torch(at(name)); }
  std::vector<std::pair<std::string, torch::Tensor>> tensors(const char* name) const {
    std::vector<std::pair<std::string, torch::Tensor>> result;
    for (const auto& [key, value] : at(name).entries()) result.emplace_back(*key.as_string(), to_torch(value));
    return result;
  }

  /// The model with the golden weights.
  ImageGPT model() const {
    ImageGPT model(options());
    torch::NoGradGuard no_grad;
    auto parameters = model->named_parameters();
    for (const auto& [name, weights] : tensors("weights")) parameters[name].copy_(weights);
    return model;
  }

 private:
  const formats::PickleValue& at(const char* name) const {
    const auto* value = root_.find(name);
    if (!value) throw std::runtime_error(std::string("no golden value ") + name);
    return *value;
  }

  static torch::Tensor to_torch(const formats::PickleValue& value) {
    const auto& stored = *value.as_tensor();
    const bool is_float = formats::dtype_name(stored.dtype).starts_with("float");
    return igpt::to_torch(stored, is_float ? torch::kFloat64 : torch::kInt64);
  }

  formats::PickleValue root_;
};

/// Largest difference of two tensors, relative to the largest entry of `expected`.
inline double relative_error(const torch::Tensor& actual, const torch::Tensor& expected) {
  const auto a = actual.detach().to(torch::kCPU, torch::kFloat64),
             e = expected.detach().to(torch::kCPU, torch::kFloat64);
  if (a.sizes() != e.sizes()) return std::numeric_limits<double>::infinity();
  const double largest = e.abs().max().item<double>();
  return (a - e).abs().max().item<double>() / (largest > 0 ? largest : 1.0);
}

/// The gradients of `model` are the expected ones, up to `tolerance` of the largest entry, and no others are there.
inline void expect_gradients(ImageGPT& model, const std::vector<std::pair<std::string, torch::Tensor>>& expected,
                             double tolerance) {
  auto parameters = model->named_parameters();
  EXPECT_GT(expected.size(), 10u);
  for (const auto& [name, gradient] : expected) {
    ASSERT_TRUE(parameters[name].grad().defined()) << name;
    EXPECT_LT(relative_error(parameters[name].grad(), gradient), tolerance) << name;
  }
  for (const auto& entry : parameters) {
    const bool in_golden = std::any_of(expected.begin(), expected.end(),
                                       [&](const auto& gradient) { return gradient.first == entry.key(); });
    if (!in_golden) {
      EXPECT_FALSE(entry.value().grad().defined()) << entry.key();
    }
  }
}

}  // namespace igpt::testing
