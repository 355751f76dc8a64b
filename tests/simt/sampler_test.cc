#include "src/ops/cuda/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <ostream>

#include "igpt/sampling/draw.h"
#include "igpt/sampling/philox.h"
#include "simt/device_memory.h"
#include "simt/model_reference.h"
#include "src/ops/cuda/model_sizes.h"

namespace igpt::ops::cuda {
namespace {

using simt::Buffer;

struct Case {
  const char* name;
  ModelShape shape;
  int images, given;
  DrawOptions options{};
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

constexpr uint64_t kFirstStream = (uint64_t{7} << 32) + 3;

struct Samples {
  Case c;
  std::vector<float> weight_values;
  Buffer<float> weights, cache, logits;
  Buffer<uint64_t> streams;
  Buffer<int64_t> labels;
  Buffer<uint8_t> tokens;
  Buffer<int32_t> faults;

  explicit Samples(const Case& of)
      : c(of),
        weight_values(testing::drawn_weights(c.shape, 1)),
        weights("weights", weight_values),
        cache("cache", static_cast<size_t>(sampler_cache_floats(c.shape, c.images))),
        logits("logits", pixels() * static_cast<size_t>(c.shape.num_vocab)),
        streams("streams", first_streams(c.images)),
        labels("labels", label_values()),
        tokens("tokens", context()),
        faults("faults", static_cast<size_t>(c.images)) {}

  size_t pixels() const { return static_cast<size_t>(c.images * c.shape.sequence_length); }
  std::vector<int64_t> label_values() const { return testing::drawn_labels(c.images, c.shape.num_classes); }
  static std::vector<uint64_t> first_streams(int images) {
    std::vector<uint64_t> streams;
    for (int i = 0; i < images; ++i) streams.push_back(kFirstStream + static_cast<uint64_t>(i));
    return streams;
  }
  /// What is not given is no token.
  std::vector<uint8_t> context() const {
    auto drawn = testing::drawn_tokens(pixels(), static_cast<int>(c.shape.num_vocab), 9);
    for (size_t i = 0; i < drawn.size(); ++i)
      if (static_cast<int64_t>(i) % c.shape.sequence_length >= c.given) drawn[i] = 255;
    return drawn;
  }
  void run(bool with_logits = true) {
    Sampler sampler{c.shape,        c.images,      c.given,      c.options,     weights.data(),
                    streams.data(), tokens.data(), cache.data(), faults.data(), with_logits ? logits.data() : nullptr};
    sampler.labels = labels.data();
    ASSERT_STREQ(sample(sampler), nullptr);
    simt::wait_for_device();
  }
};

class CudaSampler : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
    simt::set_order(1);
  }
};

/// How many tokens igpt::sampling::draw chooses otherwise from the device's logits.
int other_draws(Samples& samples, const std::vector<uint8_t>& tokens) {
  const Case& c = samples.c;
  const auto& logits = samples.logits.values();
  const ops::SamplingOptions options{c.options.temperature, c.options.top_k, c.options.top_p,
                                     static_cast<int64_t>(c.options.seed)};
  int others = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const uint64_t at = i % static_cast<size_t>(c.shape.sequence_length),
                   image = i / static_cast<size_t>(c.shape.sequence_length);
    if (static_cast<int64_t>(at) < c.given) continue;
    const auto vocab = static_cast<size_t>(c.shape.num_vocab);
    const double u = sampling::uniform(c.options.seed, kFirstStream + image, at);
    others += tokens[i] != sampling::draw({logits.data() + i * vocab, vocab}, options, u);
  }
  return others;
}

TEST_P(CudaSampler, DrawsFromTheModelAsTheCpuDoes) {
  Samples samples(GetParam());
  samples.run();
  if (HasFatalFailure()) return;
  const Case& c = samples.c;
  const auto tokens = samples.tokens.values(), context = samples.context();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (static_cast<int64_t>(i) % c.shape.sequence_length < c.given)
      ASSERT_EQ(tokens[i], context[i]);
    else
      ASSERT_LT(tokens[i], c.shape.num_vocab);
  }
  const testing::ModelReference expected(c.shape, samples.weight_values, tokens, samples.label_values());
  const double error = testing::relative_error(samples.logits.values(), expected.logits);
  EXPECT_LT(error, 3e-6);
  RecordProperty("logits", ::testing::PrintToString(error));
  EXPECT_EQ(other_draws(samples, tokens), 0);
  EXPECT_THAT(samples.faults.values(), ::testing::Each(0));
}

TEST_P(CudaSampler, IsTheSameBitsInAnotherOrderAndWithoutLogits) {
  Samples samples(GetParam()), other(GetParam());
  samples.run();
  simt::set_order(2);
  other.run(/*with_logits=*/false);
  EXPECT_EQ(samples.tokens.values(), other.tokens.values());
}

/// Temperatures, restrictions and contexts; keys and values in shared memory and, where they are many, in the cache.
std::vector<Case> cases() {
  using testing::conv_shape;
  using testing::of_classes;
  using testing::paper_shape;
  using testing::plane_shape;
  using testing::raster_shape;
  using testing::with_final_norm;
  return {{"Plain", raster_shape(6, 16, 2, 2, 16), 3, 0, {1, 0, 1, (uint64_t{1} << 40) + 1}},
          {"Completion", raster_shape(6, 16, 2, 2, 16), 2, 18, {1, 0, 1, 2}},
          {"GivenButOne", raster_shape(3, 16, 2, 1, 16), 2, 8, {1, 0, 1, 16}},
          {"Cold", raster_shape(6, 16, 2, 1, 16), 1, 0, {0.5, 0, 1, 3}},
          {"Greedy", raster_shape(6, 16, 2, 1, 16), 1, 0, {1, 1, 1, 4}},
          {"TopK", raster_shape(6, 16, 2, 1, 16), 2, 0, {2, 5, 1, 5}},
          {"TopKBeyondAll", raster_shape(3, 16, 2, 1, 16), 2, 0, {2, 100, 0.9, 17}},
          {"TopP", raster_shape(6, 16, 2, 1, 16), 2, 0, {2, 0, 0.8, 6}},
          {"TopKAndP", raster_shape(6, 16, 2, 1, 16), 2, 0, {2, 8, 0.7, 7}},
          {"ManyTokens", raster_shape(4, 24, 3, 1, 200), 1, 0, {1, 150, 0.9, 8}},
          {"Plane", plane_shape(6, 16, 2, 2, 16), 2, 7, {1, 0, 1, 9}},
          {"Conv", conv_shape(6, 16, 2, 2, 16), 2, 7, {1, 0, 1, 26}},
          {"WideConv", conv_shape(4, 64, 2, 2, 32, 20, 60), 1, 0, {1, 0, 1, 27}},
          {"ConvOfClasses", of_classes(conv_shape(4, 24, 3, 2, 10)), 3, 5, {1, 0, 1, 28}},
          {"ConvWithCacheInGlobalMemory", conv_shape(17, 32, 4, 2, 16), 1, 285, {1, 0, 1, 29}},
          {"WidePlane", plane_shape(4, 64, 2, 1, 32), 1, 0, {1, 0, 1, 10}},
          {"FinalNorm", with_final_norm(raster_shape(6, 16, 2, 2, 16)), 2, 5, {1, 0, 1, 19}},
          {"PlaneWithoutFinalNorm", with_final_norm(plane_shape(6, 16, 2, 2, 16), false), 2, 0, {1, 0, 1, 20}},
          {"Paper", paper_shape(6, 16, 2, 2, 16), 2, 7, {1, 0, 1, 21}},
          {"WidePaper", paper_shape(4, 64, 2, 1, 32), 1, 0, {1, 0, 1, 22}},
          {"PaperOddWithoutFinalNorm", with_final_norm(paper_shape(4, 24, 3, 2, 10), false), 2, 0, {1, 0, 1, 23}},
          {"OfClasses", of_classes(raster_shape(5, 16, 2, 1, 16)), 4, 0, {1, 0, 1, 24}},
          {"PlaneOfClasses", of_classes(plane_shape(4, 24, 3, 1, 10)), 3, 5, {1, 0, 1, 25}},
          {"WideHeads", raster_shape(4, 32, 2, 1, 5), 1, 0, {1, 0, 1, 11}},
          {"EightHeads", raster_shape(6, 64, 8, 1, 16), 1, 0, {1, 0, 1, 12}},
          {"CacheInGlobalMemory", raster_shape(17, 32, 4, 3, 16), 1, 285, {1, 0, 1, 13}},
          {"LongerThanAWarpOfKeys", raster_shape(18, 16, 2, 1, 16), 1, 0, {1, 0, 1, 14}},
          {"OnePixel", raster_shape(1, 8, 1, 1, 2), 2, 0, {1, 0, 1, 15}}};
}
INSTANTIATE_TEST_SUITE_P(Cases, CudaSampler, ::testing::ValuesIn(cases()), ::testing::PrintToStringParamName());

TEST(CudaSamplerLogits, ThatAreNotFiniteAreReported) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  Samples samples({"", testing::raster_shape(3, 16, 2, 1, 16), 2, 0});
  const ParameterTable at(samples.c.shape);
  samples.weight_values[static_cast<size_t>(at.head + 5)] = std::numeric_limits<float>::quiet_NaN();
  Buffer<float> weights("weights", samples.weight_values);
  ASSERT_STREQ(sample({samples.c.shape,
                       2,
                       0,
                       {},
                       weights.data(),
                       samples.streams.data(),
                       samples.tokens.data(),
                       samples.cache.data(),
                       samples.faults.data()}),
               nullptr);
  simt::wait_for_device();
  EXPECT_THAT(samples.faults.values(), ::testing::Each(1));
}

TEST(CudaSamplerDraws, OfEquallyLikelyTokensTheLowerOnesAreMoreLikely) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  Samples samples({"", testing::raster_shape(3, 16, 2, 1, 16), 2, 0, {1, 3, 1, 18}});
  const ParameterTable at(samples.c.shape);
  std::fill_n(samples.weight_values.begin() + at.head, 16 * 16, 0.0f);
  Buffer<float> weights("weights", samples.weight_values);
  ASSERT_STREQ(sample({samples.c.shape, 2, 0, samples.c.options, weights.data(), samples.streams.data(),
                       samples.tokens.data(), samples.cache.data(), samples.faults.data()}),
               nullptr);
  simt::wait_for_device();
  EXPECT_THAT(samples.tokens.values(), ::testing::Each(::testing::Lt(3)));
  EXPECT_THAT(samples.tokens.values(), ::testing::Contains(2));
}

TEST(CudaSamplerArguments, WhatHasNoKernelIsRefusedInWords) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  const ModelShape good = testing::raster_shape(3, 16, 2, 1, 16);
  EXPECT_TRUE(has_kernels(good, 1));
  ModelShape odd_head = good, no_layers = good, odd_side = testing::plane_shape(3, 16, 2, 1, 16);
  odd_head.num_heads = 4;
  no_layers.num_layers = 0;
  odd_side.sequence_length = 8;
  for (const ModelShape& shape : {odd_head, no_layers, odd_side}) {
    EXPECT_FALSE(has_kernels(shape, 1));
    EXPECT_FALSE(model_supports(shape, 1, simt::limits()));
    EXPECT_THAT(sample({shape, 1}), ::testing::HasSubstr("sizes"));
  }
  EXPECT_FALSE(has_kernels(good, 0));
}

}  // namespace
}  // namespace igpt::ops::cuda
