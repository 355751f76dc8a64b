#include "igpt/ops/cpu/decoder.h"
#include "igpt/ops/cpu/fused_step.h"

#include <gtest/gtest.h>

#include <hwy/targets.h>
#include <algorithm>
#include <cmath>
#include <random>
#include <tuple>

#include "igpt/error.h"
#include "reference_model.h"

namespace igpt::ops::cpu {
namespace {

using testing::ReferenceModel;

struct Case {
  ModelShape shape;
  float scale = 0.4f;  // of the weights
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  if (c.shape.pre_norm) out << "PreNorm_";
  if (c.shape.final_norm) out << "FinalNorm_";
  if (c.shape.rms_norm) out << "RmsNorm_";
  if (c.shape.quick_gelu) out << "QuickGelu_";
  if (c.shape.conditional) out << "Conditional_";
  if (c.shape.table_rank > 0) out << "R" << c.shape.table_rank << "_";
  if (c.shape.conv_taps > 0) out << "M" << c.shape.conv_taps << "_";
  return out << "D" << c.shape.embed_dim << "_H" << c.shape.num_heads << "_L" << c.shape.num_layers << "_S"
             << c.shape.sequence_length << "_V" << c.shape.num_vocab << "_K" << c.shape.neighbours << "_scale"
             << c.scale;
}

constexpr int64_t kClass = 2;  // of the images, where the model has a start token for each class

const ModelShape kSmall{16, 2, 2, 36, 16}, kSmall2d{16, 2, 2, 36, 16, 10, 12, true, true},
    kSmallConv{16, 2, 2, 36, 16, 10, 12, true, true, false, false, true, false, false, 8, 12};

std::vector<float> random_weights(const ModelShape& shape, float scale = 0.4f) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> weights(static_cast<size_t>(ParameterTable(shape).count));
  for (float& weight : weights) weight = normal(random);
  return weights;
}

std::vector<int64_t> random_tokens(const ModelShape& shape) {
  std::mt19937 random(3);
  std::vector<int64_t> tokens(static_cast<size_t>(shape.sequence_length));
  for (auto& token : tokens) token = static_cast<int64_t>(random()) % shape.num_vocab;
  return tokens;
}

std::vector<std::vector<float>> decoded(const Decoder& decoder, Decoder::State& state, const std::vector<int64_t>& x,
                                        int64_t num_vocab) {
  std::vector<std::vector<float>> logits;
  for (size_t s = 0; s < x.size(); ++s) {
    logits.emplace_back(static_cast<size_t>(num_vocab));
    decoder.decode(state, s == 0 ? kClass : x[s - 1], static_cast<int64_t>(s), logits.back());
  }
  return logits;
}

double relative_error(const std::vector<std::vector<float>>& actual, const std::vector<double>& expected) {
  double error = 0, largest = 0;
  size_t i = 0;
  for (const auto& row : actual)
    for (const float logit : row) {
      const double wanted = expected[i++];
      error = std::max(error, std::isnan(logit) ? INFINITY : std::abs(logit - wanted));
      largest = std::max(largest, std::abs(wanted));
    }
  return error / largest;
}

// Makes Highway choose one of the targets that this machine has.
class DecoderTargets : public ::testing::TestWithParam<std::tuple<int64_t, Case>> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(std::get<0>(GetParam())); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(DecoderTargets, LogitsEqualThePlainModels) {
  const auto& [shape, scale] = std::get<1>(GetParam());
  const auto weights = random_weights(shape, scale);
  const auto x = random_tokens(shape);
  const Decoder decoder(shape, weights);
  auto state = decoder.make_state();
  const auto logits = decoded(decoder, state, x, shape.num_vocab);
  const ReferenceModel reference(shape, {weights.begin(), weights.end()});
  const auto expected = reference.run(std::vector<uint8_t>(x.begin(), x.end()), /*label=*/-1, kClass).logits;
  EXPECT_LT(relative_error(logits, expected), scale > 1 ? 2e-3 : 1e-4);
}

std::string test_name(const ::testing::TestParamInfo<std::tuple<int64_t, Case>>& info) {
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
    ::testing::Combine(
        ::testing::ValuesIn(targets()),
        ::testing::Values(Case{{16, 2, 2, 784, 16}}, Case{{4, 1, 1, 1, 2}}, Case{{8, 2, 3, 16, 3}},
                          Case{{10, 2, 2, 25, 17}}, Case{{16, 1, 2, 49, 16}}, Case{{32, 1, 1, 36, 256}},
                          Case{{36, 6, 2, 36, 100}}, Case{{63, 7, 2, 25, 16}}, Case{{128, 4, 2, 25, 16}},
                          Case{{128, 32, 1, 25, 16}}, Case{{24, 2, 9, 81, 16}}, Case{{58, 2, 2, 25, 16}},
                          Case{{6, 3, 2, 15, 16}}, Case{{7, 7, 2, 17, 16}},
                          Case{{16, 2, 3, 49, 16, 10, 12, true, true}}, Case{{10, 2, 2, 25, 17, 3, 30, true, true}},
                          // what these have, each without the others
                          Case{{16, 2, 3, 49, 16, 10, 0, false, true}}, Case{{10, 2, 2, 25, 17, 3, 0, false, true}},
                          Case{{16, 2, 2, 49, 16, 10, 0, true, false}}, Case{{10, 2, 2, 25, 17, 3, 12, true, false}},
                          Case{{16, 2, 2, 25, 16, 10, 12, false, false}},
                          // the paper's, and what it has each without the others
                          Case{{16, 2, 2, 49, 16, 10, 0, true, true, true, true, false}},
                          Case{{10, 2, 2, 25, 17, 3, 0, true, true, true, false}},
                          Case{{16, 2, 2, 49, 16, 10, 0, false, false, false, true}},
                          // a start token for each class
                          Case{{16, 2, 2, 49, 16, 3, 0, false, false, false, false, true, true}},
                          Case{{10, 2, 2, 25, 17, 300, 12, true, true, false, false, true, true}},
                          // products for tables and convolutions, and each without the other
                          Case{{24, 3, 2, 49, 16, 3, 20, true, true, false, false, true, true, false, 8, 12}},
                          Case{{10, 2, 2, 25, 17, 3, 5, true, true, false, false, true, false, false, 3, 0}},
                          Case{{10, 2, 2, 64, 17, 3, 0, false, false, false, false, true, false, false, 0, 60}},
                          // attention whose logits are in the hundreds
                          Case{{16, 2, 2, 49, 16}, 4.0f})),
    test_name);

TEST(Decoder, AnImageLeavesNothingBehind) {
  const auto shape = kSmall;
  const Decoder decoder(shape, random_weights(shape));
  auto state = decoder.make_state();
  const auto x = random_tokens(shape);
  const auto first = decoded(decoder, state, x, shape.num_vocab);
  decoded(decoder, state, std::vector<int64_t>(x.rbegin(), x.rend()), shape.num_vocab);
  EXPECT_EQ(decoded(decoder, state, x, shape.num_vocab), first);
}

TEST(Decoder, APositionMayBeDecodedAgainWithoutItsPast) {
  for (const auto& shape : {kSmall, kSmall2d, kSmallConv}) {
    const Decoder decoder(shape, random_weights(shape));
    auto state = decoder.make_state();
    const auto x = random_tokens(shape);
    const auto expected = decoded(decoder, state, x, shape.num_vocab);
    std::vector<float> logits(static_cast<size_t>(shape.num_vocab));
    for (size_t s = 20; s < x.size(); ++s) {
      decoder.decode(state, x[s - 1], static_cast<int64_t>(s), logits);
      EXPECT_EQ(logits, expected[s]);
    }
  }
}

TEST(Decoder, PositionsWithoutLogitsCountTheSame) {
  for (const auto& shape : {kSmall, kSmallConv}) {
    const Decoder decoder(shape, random_weights(shape));
    auto state = decoder.make_state(), quiet = decoder.make_state();
    const auto x = random_tokens(shape);
    const auto expected = decoded(decoder, state, x, shape.num_vocab);
    std::vector<float> logits(static_cast<size_t>(shape.num_vocab));
    for (size_t s = 0; s + 1 < x.size(); ++s) decoder.decode(quiet, s == 0 ? 0 : x[s - 1], static_cast<int64_t>(s), {});
    decoder.decode(quiet, x[x.size() - 2], static_cast<int64_t>(x.size()) - 1, logits);
    EXPECT_EQ(logits, expected.back());
  }
}

TEST(Decoder, WhatDoesNotFitIsRefused) {
  const auto shape = kSmall;
  const auto parameters = random_weights(shape);
  const Decoder decoder(shape, parameters);
  auto state = decoder.make_state();
  std::vector<float> logits(16), few(15);
  EXPECT_THROW(decoder.decode(state, 0, 36, logits), Error);
  EXPECT_THROW(decoder.decode(state, 0, -1, logits), Error);
  EXPECT_THROW(decoder.decode(state, 16, 1, logits), Error);
  EXPECT_THROW(decoder.decode(state, -1, 1, logits), Error);
  EXPECT_THROW(decoder.decode(state, 1, 1, few), Error);
  auto of_classes = shape;
  of_classes.conditional = true;
  const Decoder conditional(of_classes, random_weights(of_classes));
  auto other = conditional.make_state();
  EXPECT_THROW(conditional.decode(other, of_classes.num_classes, 0, logits), Error);
  EXPECT_THROW(conditional.decode(other, -1, 0, logits), Error);
  EXPECT_THROW(Decoder(shape, std::span(parameters).first(parameters.size() - 1)), Error);
  auto more = parameters;
  more.push_back(0);
  EXPECT_THROW(Decoder(shape, more), Error);
}

TEST(Decoder, LargerModelsAreRefused) {
  const ModelShape shape{132, 4, 1, 16, 16};
  EXPECT_FALSE(supports(shape));
  EXPECT_THROW(Decoder(shape, random_weights(shape)), Error);
}

}  // namespace
}  // namespace igpt::ops::cpu
