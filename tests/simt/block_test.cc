#include "src/ops/cuda/block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <span>

#include "simt/device_memory.h"
#include "simt/model_reference.h"

namespace igpt::ops::cuda {
namespace {

using simt::Buffer;
using testing::BlockReference;
using testing::Doubles;
using testing::drawn;

struct Case {
  int embed, tokens;
  bool pre_norm = false, rms_norm = false, quick_gelu = false;

  ModelShape shape() const {
    ModelShape shape;
    shape.embed_dim = embed;
    shape.pre_norm = pre_norm;
    shape.rms_norm = rms_norm;
    shape.quick_gelu = quick_gelu;
    return shape;
  }
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "D" << c.embed << "_T" << c.tokens << (c.pre_norm ? "_pre_norm" : "_post_norm")
             << (c.rms_norm ? "_rms" : "") << (c.quick_gelu ? "_quick" : "");
}

std::vector<float> block_weights(const ModelShape& shape) {
  auto weights = drawn(static_cast<size_t>(ParameterTable(shape).block_count()), 7,
                       1.0 / std::sqrt(static_cast<double>(shape.embed_dim)));
  const auto p = block_parameters(weights.data(), shape);
  for (float* gain : {p.ln_1_weight, p.ln_2_weight})
    for (float& g : std::span(gain, static_cast<size_t>(shape.embed_dim))) g += 1.0f;
  return weights;
}

/// What is around attention, forward and backward, with the inputs that attention would bring drawn.
struct Block {
  ModelShape shape;
  BlockSizes sizes;
  std::vector<float> weight_values, x_values, attended_values, d_out_values, d_qkv_values;
  Buffer<float> weights, x, attended, d_out, d_qkv, qkv, mid, out, d_mid, d_attended, dx, sums;

  explicit Block(const Case& c)
      : shape(c.shape()),
        sizes(shape, c.tokens),
        weight_values(block_weights(shape)),
        x_values(drawn(size(), 1, 2, 0.5)),
        attended_values(drawn(size(), 2)),
        d_out_values(drawn(size(), 3)),
        d_qkv_values(drawn(3 * size(), 4)),
        weights("weights", weight_values),
        x("x", x_values),
        attended("attended", attended_values),
        d_out("d_out", d_out_values),
        d_qkv("d_qkv", d_qkv_values),
        qkv("qkv", 3 * size()),
        mid("mid", size()),
        out("out", size()),
        d_mid("d_mid", size()),
        d_attended("d_attended", size()),
        dx("dx", size()),
        sums("sums", static_cast<size_t>(parts_of(c.tokens, c.embed) * sizes.parameters)) {}

  size_t size() const { return static_cast<size_t>(sizes.tokens * sizes.embed); }

  void run() {
    const auto w = block_arrays<const float>(weights.data(), shape);
    const auto s = block_arrays(sums.data(), shape);
    ASSERT_STREQ(qkv_forward({sizes, w, x.data(), qkv.data()}), nullptr);
    ASSERT_STREQ(out_proj_mlp_forward({sizes, w, x.data(), attended.data(), mid.data(), out.data()}), nullptr);
    ASSERT_STREQ(out_proj_mlp_backward(
                     {sizes, w, s, mid.data(), attended.data(), d_out.data(), d_mid.data(), d_attended.data()}),
                 nullptr);
    ASSERT_STREQ(qkv_backward({sizes, w, s, x.data(), d_qkv.data(), d_mid.data(), dx.data()}), nullptr);
    simt::wait_for_device();
  }

  /// The gradients: the sums of the parts.
  Doubles gradients() {
    const auto& values = sums.values();
    Doubles total(static_cast<size_t>(sizes.parameters));
    for (size_t i = 0; i < values.size(); ++i) total[i % total.size()] += values[i];
    return total;
  }
};

class CudaBlock : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const int shared_bytes = block_shared_bytes(GetParam().embed);
    if (const auto cause = simt::why_not_here(shared_bytes); !cause.empty()) GTEST_SKIP() << cause;
    simt::set_order(1);
  }
};

Doubles doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

TEST_P(CudaBlock, IsWithinTheLimitOfDoublePrecision) {
  Block block(GetParam());
  block.run();
  if (HasFatalFailure()) return;
  EXPECT_EQ(block.qkv.unwritten() + block.out.unwritten() + block.dx.unwritten() + block.sums.unwritten(), 0);
  BlockReference expected(block.weight_values, block.shape);
  const Doubles x = doubles(block.x_values), qkv = expected.qkv(x),
                mid = expected.mid(x, doubles(block.attended_values)), out = expected.out(mid),
                d_attended = expected.d_attended(doubles(block.d_out_values)),
                dx = expected.dx(doubles(block.d_qkv_values));
  constexpr double kLimit = 1.5e-6;
  const auto expect_near = [&](const char* name, const auto& computed, const Doubles& right) {
    const double error = testing::relative_error(computed, right);
    EXPECT_LT(error, kLimit) << name;
    RecordProperty(name, ::testing::PrintToString(error));
  };
  expect_near("qkv", block.qkv.values(), qkv);
  expect_near("mid", block.mid.values(), mid);
  expect_near("out", block.out.values(), out);
  expect_near("d_mid", block.d_mid.values(), expected.d_mid);
  expect_near("d_attended", block.d_attended.values(), d_attended);
  expect_near("dx", block.dx.values(), dx);
  const Doubles gradients = block.gradients();
  BlockParameters<int64_t> unused;
  int64_t first = 0;
  const auto compare = [&](const char* name, int64_t&, int64_t rows, int64_t columns) {
    const int64_t end = first + rows * std::max<int64_t>(columns, 1);
    expect_near(name, Doubles(gradients.begin() + first, gradients.begin() + end),
                Doubles(expected.gradients.begin() + first, expected.gradients.begin() + end));
    first = end;
  };
  for_each_parameter(unused, block.shape, compare);
  EXPECT_EQ(first, block.sizes.parameters);
}

TEST_P(CudaBlock, IsTheSameBitsInAnotherOrder) {
  Block block(GetParam());
  block.run();
  if (HasFatalFailure()) return;
  const auto qkv = block.qkv.values(), out = block.out.values(), dx = block.dx.values(), sums = block.sums.values();
  simt::set_order(2);
  block.run();
  EXPECT_EQ(block.qkv.values(), qkv);
  EXPECT_EQ(block.out.values(), out);
  EXPECT_EQ(block.dx.values(), dx);
  EXPECT_EQ(block.sums.values(), sums);
}

/// D with a kernel of its own and without, tokens around the tiles of 64 and 32.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const bool pre_norm : {false, true}) {
    for (const int tokens : {1, 63, 64, 65, 200}) all.push_back({16, tokens, pre_norm});
    for (const int tokens : {63, 65}) all.push_back({32, tokens, pre_norm});
    for (const int tokens : {1, 31, 32, 33}) all.push_back({24, tokens, pre_norm});
    all.push_back({8, 33, pre_norm});
    all.push_back({64, 33, pre_norm});
    for (const int embed : {16, 24, 32, 64})
      all.push_back({embed, 65, pre_norm, /*rms_norm=*/true, /*quick_gelu=*/true});
    all.push_back({16, 1, pre_norm, /*rms_norm=*/true});
    all.push_back({16, 1, pre_norm, /*rms_norm=*/false, /*quick_gelu=*/true});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaBlock, ::testing::ValuesIn(cases()), ::testing::PrintToStringParamName());

TEST(CudaBlockParts, ABlockThatHasSeveralTilesAddsThemUp) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  Block block({8, 400 * 32 + 25, false});  // tiles of 32, two for each of 200 blocks and one for the last
  ASSERT_EQ(parts_of(block.sizes.tokens, 8), 201);
  block.run();
  EXPECT_EQ(block.dx.unwritten() + block.sums.unwritten(), 0);
  BlockReference expected(block.weight_values, block.shape);
  const Doubles x = doubles(block.x_values);
  expected.qkv(x);
  expected.out(expected.mid(x, doubles(block.attended_values)));
  expected.d_attended(doubles(block.d_out_values));
  const Doubles dx = expected.dx(doubles(block.d_qkv_values));
  EXPECT_LT(testing::relative_error(block.dx.values(), dx), 1.5e-6);
  EXPECT_LT(testing::relative_error(block.gradients(), expected.gradients), 1.5e-6);
}

TEST(CudaBlockActivation, OfHugeUnitsIsTheirOwnValueOrZero) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  for (const bool quick_gelu : {false, true}) {
    Block block({16, 70, true, false, quick_gelu});
    for (float* w = block_parameters(block.weight_values.data(), block.shape).up_weight;
         float& up : std::span(w, 64 * 16))
      up *= 100;
    Buffer<float> weights("weights", block.weight_values), d_mid("d_mid", block.size());
    const auto w = block_arrays<const float>(weights.data(), block.shape);
    ASSERT_STREQ(out_proj_mlp_forward(
                     {block.sizes, w, block.x.data(), block.attended.data(), block.mid.data(), block.out.data()}),
                 nullptr);
    ASSERT_STREQ(
        out_proj_mlp_backward({block.sizes, w, block_arrays(block.sums.data(), block.shape), block.mid.data(),
                               block.attended.data(), block.d_out.data(), d_mid.data(), block.d_attended.data()}),
        nullptr);
    simt::wait_for_device();
    BlockReference expected(block.weight_values, block.shape);
    const Doubles out = expected.out(expected.mid(doubles(block.x_values), doubles(block.attended_values)));
    expected.d_attended(doubles(block.d_out_values));
    EXPECT_LT(testing::relative_error(block.out.values(), out), 3e-6);
    EXPECT_LT(testing::relative_error(d_mid.values(), expected.d_mid), 2e-4);  // slopes between 0 and 1 are steep
  }
}

TEST(CudaBlockArguments, WhatHasNoKernelIsRefusedInWords) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  EXPECT_TRUE(dense_supports(1, 16));
  for (const Case& c : {Case{68, 1}, Case{18, 1}, Case{16, 0}, Case{0, 1}}) {
    const BlockSizes sizes(c.shape(), c.tokens);
    EXPECT_FALSE(dense_supports(sizes.tokens, sizes.embed));
    for (const char* cause :
         {qkv_forward({sizes}), out_proj_mlp_forward({sizes}), out_proj_mlp_backward({sizes}), qkv_backward({sizes})})
      EXPECT_THAT(cause, ::testing::HasSubstr("sizes"));
  }
}

}  // namespace
}  // namespace igpt::ops::cuda
