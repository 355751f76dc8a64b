#include "src/ops/cuda/head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "simt/device_memory.h"
#include "simt/model_reference.h"

namespace igpt::ops::cuda {
namespace {

using simt::Buffer;
using testing::Doubles;
using testing::drawn;

struct Case {
  int images, length, embed, outputs;
  bool final_norm, rms_norm = false, bias = true;

  /// The classifier's, where `pooled`.
  HeadSizes sizes(bool pooled) const { return {images, length, embed, outputs, final_norm, rms_norm, pooled && bias}; }
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "D" << c.embed << "_V" << c.outputs << "_B" << c.images << "_S" << c.length
             << (c.final_norm ? "_norm" : "_plain") << (c.rms_norm ? "_rms" : "") << (c.bias ? "" : "_no_bias");
}

/// Inputs and results of a head on the tokens (kPerImage false) or on pooled images.
struct HeadRun {
  HeadSizes sizes;
  bool pooled;
  std::vector<float> norm_values, weight_values, bias_values, x_values;
  std::vector<uint8_t> targets;
  Buffer<float> norm, weight, bias, x;
  Buffer<uint8_t> tokens;
  Buffer<int64_t> labels;
  Buffer<float> nats, logits, dx, sums;

  static constexpr float kScale = 0.125f;

  HeadRun(const Case& c, bool pool)
      : sizes(c.sizes(pool)),
        pooled(pool),
        norm_values(drawn(size_t(sizes.rms_norm ? 1 : 2) * c.embed, 1, 0.5, 1)),
        weight_values(drawn(size_t(c.outputs) * c.embed, 2, 0.7)),
        bias_values(drawn(c.outputs, 3)),
        x_values(drawn(size(), 4, 1.5, 0.2)),
        targets(testing::drawn_tokens(rows(), c.outputs, 5)),
        norm("norm", norm_values),
        weight("weight", weight_values),
        bias("bias", bias_values),
        x("x", x_values),
        tokens("tokens", targets),
        labels("labels", std::vector<int64_t>(targets.begin(), targets.end())),
        nats("nats", rows()),
        logits("logits", rows() * c.outputs),
        dx("dx", size()),
        sums("sums", static_cast<size_t>((pooled ? c.images : parts_of(sizes.tokens, c.embed)) * sizes.weights)) {}

  size_t size() const { return static_cast<size_t>(sizes.tokens * sizes.embed); }
  size_t rows() const { return static_cast<size_t>(pooled ? sizes.images : sizes.tokens); }

  float* bias_if_any() { return sizes.bias ? bias.data() : nullptr; }

  void run() {
    const char* const cause =
        pooled ? classifier({sizes, norm.data(), weight.data(), bias_if_any(), x.data(), labels.data(), kScale,
                             nats.data(), logits.data(), dx.data(), sums.data()})
               : head({sizes, norm.data(), weight.data(), x.data(), tokens.data(), kScale, nats.data(), logits.data(),
                       dx.data(), sums.data()});
    ASSERT_STREQ(cause, nullptr);
    simt::wait_for_device();
  }
};

void compare(HeadRun& run) {
  const HeadSizes& s = run.sizes;
  const int embed = static_cast<int>(s.embed), outputs = static_cast<int>(s.outputs),
            length = static_cast<int>(s.length);
  const Doubles x(run.x_values.begin(), run.x_values.end()), norm(run.norm_values.begin(), run.norm_values.end()),
      weight(run.weight_values.begin(), run.weight_values.end()), bias(run.bias_values.begin(), run.bias_values.end());
  testing::LayerNorm layer_norm(embed, s.rms_norm);
  Doubles features = s.final_norm ? layer_norm.forward(x, norm.data(), norm.data() + embed) : x;
  if (run.pooled) {
    Doubles mean(static_cast<size_t>(s.images * embed));
    for (size_t i = 0; i < features.size(); ++i) mean[i / (length * embed) * embed + i % embed] += features[i] / length;
    features = mean;
  }
  const Doubles logits = testing::linear(features, weight.data(), s.bias ? bias.data() : nullptr, embed, outputs);
  const testing::CrossEntropy loss(logits, run.targets, outputs, run.kScale);
  Doubles d_norm(s.norm_weights), d_weight(weight.size()), d_bias(bias.size());
  Doubles d_features =
      testing::linear_backward(features, loss.d_logits, weight.data(), embed, outputs, d_weight.data(), d_bias.data());
  if (run.pooled) {
    Doubles each(run.size());
    for (size_t i = 0; i < each.size(); ++i) each[i] = d_features[i / (length * embed) * embed + i % embed] / length;
    d_features = each;
  }
  const Doubles dx =
      s.final_norm ? layer_norm.backward(d_features, norm.data(), d_norm.data(), d_norm.data() + embed) : d_features;
  Doubles gradients = d_norm;
  gradients.insert(gradients.end(), d_weight.begin(), d_weight.end());
  if (s.bias) gradients.insert(gradients.end(), d_bias.begin(), d_bias.end());

  EXPECT_EQ(run.nats.unwritten() + run.logits.unwritten() + run.dx.unwritten() + run.sums.unwritten(), 0);
  const auto expect_near = [&](const char* name, const auto& computed, const Doubles& right) {
    const double error = testing::relative_error(computed, right);
    EXPECT_LT(error, 1.5e-6) << name;
    ::testing::Test::RecordProperty(name, ::testing::PrintToString(error));
  };
  expect_near("logits", run.logits.values(), logits);
  expect_near("nats", run.nats.values(), loss.nats);
  expect_near("dx", run.dx.values(), dx);
  const auto& sums = run.sums.values();
  Doubles added(gradients.size());
  ASSERT_EQ(static_cast<int64_t>(gradients.size()), s.weights);
  for (size_t i = 0; i < sums.size(); ++i) added[i % added.size()] += sums[i];
  expect_near("gradients", added, gradients);
}

void compare_orders(HeadRun& run) {
  run.run();
  const auto logits = run.logits.values(), nats = run.nats.values(), dx = run.dx.values(), sums = run.sums.values();
  simt::set_order(2);
  run.run();
  EXPECT_EQ(run.logits.values(), logits);
  EXPECT_EQ(run.nats.values(), nats);
  EXPECT_EQ(run.dx.values(), dx);
  EXPECT_EQ(run.sums.values(), sums);
}

template <int (*shared_bytes)(const HeadSizes&)>
class CudaEnd : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto cause = simt::why_not_here(shared_bytes(GetParam().sizes(/*pooled=*/false)));
    if (!cause.empty()) GTEST_SKIP() << cause;
    simt::set_order(1);
  }
};
class CudaHead : public CudaEnd<head_shared_bytes> {};
class CudaClassifier : public CudaEnd<classifier_shared_bytes> {};

TEST_P(CudaHead, IsWithinTheLimitOfDoublePrecision) {
  HeadRun run(GetParam(), /*pool=*/false);
  run.run();
  if (!HasFatalFailure()) compare(run);
}
TEST_P(CudaHead, IsTheSameBitsInAnotherOrder) {
  HeadRun run(GetParam(), /*pool=*/false);
  compare_orders(run);
}
TEST_P(CudaClassifier, IsWithinTheLimitOfDoublePrecision) {
  HeadRun run(GetParam(), /*pool=*/true);
  run.run();
  if (!HasFatalFailure()) compare(run);
}
TEST_P(CudaClassifier, IsTheSameBitsInAnotherOrder) {
  HeadRun run(GetParam(), /*pool=*/true);
  compare_orders(run);
}

std::vector<Case> cases(bool pooled) {
  std::vector<Case> all;
  for (const bool norm : {false, true}) {
    all.push_back({1, 1, 16, 16, norm});
    all.push_back({3, 21, 16, 16, norm});  // 63 tokens of 64
    all.push_back({1, 65, 16, 10, norm});
    all.push_back({2, 33, 8, 5, norm});
    all.push_back({2, 32, 64, 33, norm});
    all.push_back({1, 40, 32, pooled ? 200 : 255, norm});
  }
  if (!pooled) all.push_back({1, 1, 24, 1, true});
  for (const int embed : {16, 24, 32}) all.push_back({2, 33, embed, 7, true, /*rms_norm=*/true, /*bias=*/false});
  if (pooled) all.push_back({2, 33, 16, 10, false, false, /*bias=*/false});
  return all;
}
INSTANTIATE_TEST_SUITE_P(Cases, CudaHead, ::testing::ValuesIn(cases(false)), ::testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(Cases, CudaClassifier, ::testing::ValuesIn(cases(true)), ::testing::PrintToStringParamName());

TEST(CudaHeadParts, ABlockThatHasSeveralTilesAddsThemUp) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  for (const bool norm : {false, true}) {
    HeadRun run({1, 400 * 32 + 25, 8, 5, norm}, /*pool=*/false);  // tiles of 32, two for each of 200 blocks, one more
    ASSERT_EQ(parts_of(run.sizes.tokens, 8), 201);
    run.run();
    compare(run);
  }
}

TEST(CudaClassifierGradient, IsAddedToWhatIsThereWhereAsked) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  for (const bool norm : {false, true}) {
    HeadRun run({2, 37, 16, 10, norm}, /*pool=*/true);
    run.run();
    const auto before = drawn(run.size(), 6);
    Buffer<float> dx("dx", before);
    ASSERT_STREQ(classifier({run.sizes, run.norm.data(), run.weight.data(), run.bias.data(), run.x.data(),
                             run.labels.data(), run.kScale, nullptr, nullptr, dx.data(), run.sums.data(),
                             /*add_to_dx=*/true}),
                 nullptr);
    simt::wait_for_device();
    auto expected = run.dx.values();
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += before[i];
    EXPECT_EQ(dx.values(), expected);
  }
}

TEST(CudaHeadLogits, HugeOnesOverflowNothing) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  for (const bool pooled : {false, true}) {
    HeadRun run({2, 5, 16, 16, false}, pooled);
    for (float& w : run.weight_values) w *= 100;
    Buffer<float> weight("weight", run.weight_values);
    const char* const cause =
        pooled ? classifier({run.sizes, nullptr, weight.data(), run.bias.data(), run.x.data(), run.labels.data(),
                             run.kScale, run.nats.data(), run.logits.data(), run.dx.data(), run.sums.data()})
               : head({run.sizes, nullptr, weight.data(), run.x.data(), run.tokens.data(), run.kScale, run.nats.data(),
                       run.logits.data(), run.dx.data(), run.sums.data()});
    ASSERT_STREQ(cause, nullptr);
    simt::wait_for_device();
    compare(run);
  }
}

TEST(CudaHeadLogits, AloneNeedNeitherTargetsNorGradients) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  for (const bool pooled : {false, true}) {
    HeadRun run({2, 20, 16, 16, false}, pooled), alone({2, 20, 16, 16, false}, pooled);
    run.run();
    const char* const cause = pooled ? classifier({.sizes = alone.sizes,
                                                   .norm = nullptr,
                                                   .weight = alone.weight.data(),
                                                   .bias = alone.bias.data(),
                                                   .x = alone.x.data(),
                                                   .labels = nullptr,
                                                   .logits = alone.logits.data()})
                                     : head({.sizes = alone.sizes,
                                             .norm = nullptr,
                                             .weight = alone.weight.data(),
                                             .x = alone.x.data(),
                                             .tokens = nullptr,
                                             .logits = alone.logits.data()});
    ASSERT_STREQ(cause, nullptr);
    simt::wait_for_device();
    EXPECT_EQ(alone.logits.values(), run.logits.values());
  }
}

TEST(CudaHeadArguments, WhatHasNoKernelIsRefusedInWords) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  for (const HeadSizes& sizes : {HeadSizes{0, 1, 16, 16}, HeadSizes{1, 1, 68, 16}, HeadSizes{1, 1, 16, 0},
                                 HeadSizes{1, 1, 16, 257}, HeadSizes{1, 1, 18, 16}})
    EXPECT_THAT(head({sizes}), ::testing::HasSubstr("sizes"));
  EXPECT_THAT(classifier({HeadSizes{1, 1, 16, 1025}}), ::testing::HasSubstr("sizes"));
}

}  // namespace
}  // namespace igpt::ops::cuda
