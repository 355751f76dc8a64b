#include "igpt/ops/cpu/decoder.h"

#include <gtest/gtest.h>

#include <hwy/targets.h>
#include <algorithm>
#include <cmath>
#include <random>
#include <tuple>

#include "igpt/error.h"
#include "ops/cpu/plain_model.h"

namespace igpt::ops::cpu {
namespace {

using testing::PlainModel;
using testing::random_parameters;

struct Shape {
  int64_t embed_dim, num_heads, num_layers, num_pixels, num_vocab;
  float scale = 0.4f;  // of the weights

  ImageGPTOptions options() const {
    ImageGPTOptions options;
    options.embed_dim = embed_dim;
    options.num_heads = num_heads;
    options.num_layers = num_layers;
    options.num_pixels = num_pixels;
    options.num_vocab = num_vocab;
    return options;
  }
};

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << "D" << s.embed_dim << "_H" << s.num_heads << "_L" << s.num_layers << "_side" << s.num_pixels << "_V"
             << s.num_vocab << "_scale" << s.scale;
}

std::vector<int64_t> random_tokens(const ImageGPTOptions& options) {
  std::mt19937 random(3);
  std::vector<int64_t> tokens(static_cast<size_t>(options.sequence_length()));
  for (auto& token : tokens) token = static_cast<int64_t>(random()) % options.num_vocab;
  return tokens;
}

std::vector<std::vector<float>> decoded(const Decoder& decoder, Decoder::State& state, const std::vector<int64_t>& x,
                                        int64_t num_vocab) {
  std::vector<std::vector<float>> logits;
  for (size_t s = 0; s < x.size(); ++s) {
    logits.emplace_back(static_cast<size_t>(num_vocab));
    decoder.decode(state, s == 0 ? 0 : x[s - 1], static_cast<int64_t>(s), logits.back());
  }
  return logits;
}

double relative_error(const std::vector<std::vector<float>>& actual, const std::vector<std::vector<double>>& expected) {
  double error = 0, largest = 0;
  for (size_t s = 0; s < expected.size(); ++s)
    for (size_t token = 0; token < expected[s].size(); ++token) {
      error =
          std::max(error, std::isnan(actual[s][token]) ? INFINITY : std::abs(actual[s][token] - expected[s][token]));
      largest = std::max(largest, std::abs(expected[s][token]));
    }
  return error / largest;
}

// Makes Highway choose one of the targets that this machine has.
class DecoderTargets : public ::testing::TestWithParam<std::tuple<int64_t, Shape>> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(std::get<0>(GetParam())); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(DecoderTargets, LogitsEqualThePlainModels) {
  const Shape shape = std::get<1>(GetParam());
  const auto options = shape.options();
  const auto parameters = random_parameters(options, shape.scale);
  const auto x = random_tokens(options);
  const Decoder decoder(options, parameters);
  auto state = decoder.make_state();
  const auto logits = decoded(decoder, state, x, options.num_vocab);
  EXPECT_LT(relative_error(logits, PlainModel(options, parameters).logits(x)), shape.scale > 1 ? 2e-3 : 1e-4);
}

std::string test_name(const ::testing::TestParamInfo<std::tuple<int64_t, Shape>>& info) {
  std::ostringstream name;
  name << hwy::TargetName(std::get<0>(info.param)) << "_" << std::get<1>(info.param);
  std::string text = name.str();
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return text;
}

std::vector<int64_t> targets() {
  hwy::SetSupportedTargetsForTest(0);
  return hwy::SupportedAndGeneratedTargets();
}

INSTANTIATE_TEST_SUITE_P(
    , DecoderTargets,
    ::testing::Combine(::testing::ValuesIn(targets()),
                       ::testing::Values(Shape{16, 2, 2, 28, 16}, Shape{4, 1, 1, 1, 2}, Shape{8, 2, 3, 4, 3},
                                         Shape{10, 2, 2, 5, 17}, Shape{16, 1, 2, 7, 16}, Shape{32, 1, 1, 6, 256},
                                         Shape{36, 6, 2, 6, 100}, Shape{63, 7, 2, 5, 16}, Shape{128, 4, 2, 5, 16},
                                         Shape{128, 32, 1, 5, 16}, Shape{24, 2, 9, 9, 16}, Shape{58, 2, 2, 5, 16},
                                         // logits of attention in the hundreds
                                         Shape{16, 2, 2, 7, 16, 4.0f})),
    test_name);

TEST(Decoder, AnImageLeavesNothingBehind) {
  const auto options = Shape{16, 2, 2, 6, 16}.options();
  const Decoder decoder(options, random_parameters(options));
  auto state = decoder.make_state();
  const auto x = random_tokens(options);
  const auto first = decoded(decoder, state, x, options.num_vocab);
  decoded(decoder, state, std::vector<int64_t>(x.rbegin(), x.rend()), options.num_vocab);
  EXPECT_EQ(decoded(decoder, state, x, options.num_vocab), first);
}

TEST(Decoder, APositionMayBeDecodedAgainWithoutItsPast) {
  const auto options = Shape{16, 2, 2, 6, 16}.options();
  const Decoder decoder(options, random_parameters(options));
  auto state = decoder.make_state();
  const auto x = random_tokens(options);
  const auto expected = decoded(decoder, state, x, options.num_vocab);
  std::vector<float> logits(static_cast<size_t>(options.num_vocab));
  for (size_t s = 20; s < x.size(); ++s) {
    decoder.decode(state, x[s - 1], static_cast<int64_t>(s), logits);
    EXPECT_EQ(logits, expected[s]);
  }
}

TEST(Decoder, PositionsWithoutLogitsCountTheSame) {
  const auto options = Shape{16, 2, 2, 6, 16}.options();
  const Decoder decoder(options, random_parameters(options));
  auto state = decoder.make_state(), quiet = decoder.make_state();
  const auto x = random_tokens(options);
  const auto expected = decoded(decoder, state, x, options.num_vocab);
  std::vector<float> logits(static_cast<size_t>(options.num_vocab));
  for (size_t s = 0; s < x.size(); ++s) decoder.decode(quiet, s == 0 ? 0 : x[s - 1], static_cast<int64_t>(s), {});
  decoder.decode(quiet, x[x.size() - 2], static_cast<int64_t>(x.size()) - 1, logits);
  EXPECT_EQ(logits, expected.back());
}

TEST(Decoder, WhatDoesNotFitIsRefused) {
  const auto options = Shape{16, 2, 2, 6, 16}.options();
  const auto parameters = random_parameters(options);
  const Decoder decoder(options, parameters);
  auto state = decoder.make_state();
  std::vector<float> logits(16), few(15);
  EXPECT_THROW(decoder.decode(state, 0, 36, logits), Error);
  EXPECT_THROW(decoder.decode(state, 0, -1, logits), Error);
  EXPECT_THROW(decoder.decode(state, 16, 1, logits), Error);
  EXPECT_THROW(decoder.decode(state, -1, 1, logits), Error);
  EXPECT_THROW(decoder.decode(state, 1, 1, few), Error);
  EXPECT_THROW(Decoder(options, std::span(parameters).first(parameters.size() - 1)), Error);
  auto more = parameters;
  more.push_back(0);
  EXPECT_THROW(Decoder(options, more), Error);
}

TEST(Decoder, ShapesAreChosenByTheirSizes) {
  EXPECT_TRUE(Decoder::supports({}));
  EXPECT_TRUE(Decoder::supports(Shape{128, 4, 100, 64, 256}.options()));
  EXPECT_FALSE(Decoder::supports(Shape{129, 43, 1, 28, 16}.options()));  // width
  EXPECT_FALSE(Decoder::supports(Shape{66, 2, 1, 28, 16}.options()));    // heads of 33
  EXPECT_FALSE(Decoder::supports(Shape{6, 2, 1, 28, 16}.options()));     // heads of 3
  EXPECT_FALSE(Decoder::supports(Shape{16, 2, 1, 28, 257}.options()));   // palette
  const auto options = Shape{6, 2, 1, 28, 16}.options();
  EXPECT_THROW(Decoder(options, random_parameters(options)), Error);
}

}  // namespace
}  // namespace igpt::ops::cpu
