#include "igpt/ops/cpu/batch_decoder.h"

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

constexpr size_t kImages = 11;  // of a product 8 and 2 and 1, or 4 and 4 and 2 and 1

std::vector<float> random_weights(const ModelShape& shape) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 0.3f);
  std::vector<float> weights(static_cast<size_t>(ParameterTable(shape).count));
  for (float& weight : weights) weight = normal(random);
  return weights;
}

using Images = std::vector<std::vector<uint8_t>>;

Images random_images(const ModelShape& shape) {
  std::mt19937 random(3);
  Images images(kImages, std::vector<uint8_t>(static_cast<size_t>(shape.sequence_length)));
  for (auto& image : images)
    for (auto& token : image) token = static_cast<uint8_t>(static_cast<int64_t>(random()) % shape.num_vocab);
  return images;
}

// Where the model has a start token for each class; any, but the same for the same image.
int64_t class_of(const std::vector<uint8_t>& image) {
  return image[0] % 3;
}

// Of each image (S, V). Positions before `quiet` are read without logits, which stay 0.
std::vector<std::vector<float>> decoded(const BatchDecoder& decoder, BatchDecoder::State& state,
                                        const ModelShape& shape, const Images& images, size_t quiet = 0) {
  const auto length = static_cast<size_t>(shape.sequence_length), vocab = static_cast<size_t>(shape.num_vocab);
  std::vector<std::vector<float>> result(images.size(), std::vector<float>(length * vocab));
  std::vector<float> logits(images.size() * vocab);
  std::vector<int64_t> previous(images.size());
  for (size_t s = 0; s < length; ++s) {
    for (size_t n = 0; n < images.size(); ++n) previous[n] = s == 0 ? class_of(images[n]) : images[n][s - 1];
    decoder.decode(state, previous, static_cast<int64_t>(s), s < quiet ? std::span<float>() : logits);
    for (size_t n = 0; n < images.size() && s >= quiet; ++n)
      std::copy_n(logits.begin() + static_cast<int64_t>(n * vocab), vocab,
                  result[n].begin() + static_cast<int64_t>(s * vocab));
  }
  return result;
}

class BatchDecoderTargets : public ::testing::TestWithParam<std::tuple<int64_t, ModelShape, bool>> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(std::get<0>(GetParam())); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST_P(BatchDecoderTargets, LogitsEqualThePlainModels) {
  const auto& [target, shape, bf16] = GetParam();
  const auto weights = random_weights(shape);
  const auto images = random_images(shape);
  const BatchDecoder decoder(shape, weights, bf16);
  auto state = decoder.make_state(kImages);
  const auto logits = decoded(decoder, state, shape, images);
  const ReferenceModel reference(shape, {weights.begin(), weights.end()});
  for (const size_t n : {size_t{0}, kImages - 1}) {
    const auto expected = reference.run(images[n], /*label=*/-1, class_of(images[n])).logits;
    double error = 0, largest = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      error = std::max(error, std::isnan(logits[n][i]) ? INFINITY : std::abs(logits[n][i] - expected[i]));
      largest = std::max(largest, std::abs(expected[i]));
    }
    EXPECT_LT(error, (bf16 ? 2e-2 : 1e-5) * largest);
  }
}

TEST_P(BatchDecoderTargets, AnImageDependsOnItselfAlone) {
  const auto& [target, shape, bf16] = GetParam();
  const BatchDecoder decoder(shape, random_weights(shape), bf16);
  const auto images = random_images(shape);
  auto state = decoder.make_state(kImages), alone = decoder.make_state(1);
  const auto together = decoded(decoder, state, shape, images);
  for (size_t n = 0; n < kImages; ++n)
    EXPECT_EQ(decoded(decoder, alone, shape, {images[n]})[0], together[n]) << n;  // `alone` has read others before
  const auto half = static_cast<size_t>(shape.sequence_length / 2), vocab = static_cast<size_t>(shape.num_vocab);
  auto quiet = decoded(decoder, state, shape, images, half)[3];
  std::copy_n(together[3].begin(), half * vocab, quiet.begin());
  EXPECT_EQ(quiet, together[3]);
}

std::string test_name(const ::testing::TestParamInfo<BatchDecoderTargets::ParamType>& info) {
  const auto& [target, shape, bf16] = info.param;
  const std::string properties = std::string(shape.pre_norm ? "PreNorm" : "") + (shape.final_norm ? "FinalNorm" : "") +
                                 (shape.rms_norm ? "RmsNorm" : "") + (shape.quick_gelu ? "QuickGelu" : "") +
                                 (shape.conditional ? "Conditional" : "") + (shape.table_rank > 0 ? "R" : "") +
                                 (shape.conv_taps > 0 ? "M" + std::to_string(shape.conv_taps) : "");
  return std::string(hwy::TargetName(target)) + "_D" + std::to_string(shape.embed_dim) + "H" +
         std::to_string(shape.num_heads) + "S" + std::to_string(shape.sequence_length) + "V" +
         std::to_string(shape.num_vocab) + "K" + std::to_string(shape.neighbours) + properties +
         (bf16 ? "_bf16" : "_fp32");
}

std::vector<int64_t> targets() {
  hwy::SetSupportedTargetsForTest(0);
  return hwy::SupportedAndGeneratedTargets();
}

INSTANTIATE_TEST_SUITE_P(
    , BatchDecoderTargets,
    ::testing::Combine(
        ::testing::ValuesIn(targets()),
        ::testing::Values(ModelShape{16, 2, 2, 36, 16}, ModelShape{7, 1, 2, 25, 3}, ModelShape{192, 3, 2, 144, 200},
                          ModelShape{132, 2, 1, 81, 256},
                          ModelShape{160, 20, 1, 169, 33, 10, 0, true, true, true, true, false},
                          ModelShape{24, 3, 2, 49, 16, 10, 20, true, true},
                          ModelShape{80, 1, 2, 49, 16, 10, 0, true, false, false, true},
                          ModelShape{24, 3, 2, 49, 16, 3, 20, true, true, false, false, true, true},
                          ModelShape{160, 5, 1, 25, 33, 10, 0, true, true, true, true, false, true},
                          ModelShape{24, 3, 2, 49, 16, 3, 20, true, true, false, false, true, true, false, 8, 12},
                          ModelShape{80, 1, 2, 49, 16, 10, 0, false, true, false, false, true, false, false, 0, 60}),
        ::testing::Bool()),
    test_name);

TEST(BatchDecoder, WhatDoesNotFitIsRefused) {
  const ModelShape shape{16, 2, 2, 36, 16};
  const auto weights = random_weights(shape);
  EXPECT_THROW(BatchDecoder(shape, std::span(weights).first(weights.size() - 1), false), Error);
  const BatchDecoder decoder(shape, weights, false);
  auto state = decoder.make_state(2);
  std::vector<float> logits(32), few(31);
  const auto refused = [&](std::vector<int64_t> previous, int64_t position, std::span<float> room) {
    EXPECT_THROW(decoder.decode(state, previous, position, room), Error);
  };
  refused({0, 0}, 36, logits);
  refused({0, 0}, -1, logits);
  refused({0, 16}, 1, logits);
  refused({-1, 0}, 1, logits);
  refused({0, 0}, 1, few);
  refused({0, 0, 0}, 0, logits);
}

}  // namespace
}  // namespace igpt::ops::cpu
