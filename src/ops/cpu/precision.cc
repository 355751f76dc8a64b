#include <algorithm>
#include <cmath>
#include <vector>

#include "igpt/ops/cpu/fused_step.h"
#include "src/ops/cpu/attention_bf16.h"
#include "src/ops/cpu/kernels.h"

namespace igpt::ops::cpu {
namespace {

// Whether tiles give a small model the gradients that vectors give it: their usual difference is 0.0007.
bool agrees_with_fp32() {
  const ModelShape shape{.num_layers = 1, .sequence_length = 80};
  uint32_t state = 1;
  const auto random = [&state] { return (state = state * 1664525 + 1013904223) >> 8; };  // 24 bits
  std::vector<float> weights;
  for (int64_t i = 0; i < parameter_count(shape); ++i)
    weights.push_back(static_cast<float>(random()) * 0x1p-23f - 1.0f);
  std::vector<uint8_t> tokens;
  for (int64_t i = 0; i < shape.sequence_length; ++i) tokens.push_back(static_cast<uint8_t>(random() >> 20));
  std::vector<float> expected(weights.size()), actual(weights.size());
  FusedStep(shape, 1).generative(tokens, weights, 1, expected);
  FusedStep(shape, 1, Precision::bf16).generative(tokens, weights, 1, actual);
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(double{actual[i]} - expected[i], 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(error) <= 0.005 * std::sqrt(norm);  // false for NaN
}

}  // namespace

std::string why_not(Precision precision) {
  if (precision == Precision::fp32) return {};
  const bool emulated = precision == Precision::emulated_bf16;
  if (!(emulated ? Bf16Attention::emulated() : Bf16Attention::hardware()))
    return emulated ? "this CPU has no AVX-512 with VBMI and BF16" : "this CPU has no AMX";
  if (image_kernels().lanes != 16) return "IGPT_VECTORS rules out AVX-512";
  if (emulated) return {};
  static const bool agrees = agrees_with_fp32();
  return agrees ? "" : "this CPU's AMX does not compute what fp32 does";
}

}  // namespace igpt::ops::cpu
