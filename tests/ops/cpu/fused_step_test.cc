#include "igpt/ops/cpu/fused_step.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <random>
#include <string>

#include "igpt/error.h"
#include "reference_model.h"
#include "sanitized.h"

namespace igpt::ops::cpu {
namespace {

using igpt::testing::ReferenceModel;

// Largest errors, relative to the largest entry.
struct Tolerance {
  double logits, loss, gradients;
};
constexpr Tolerance kFp32{5e-5, 5e-5, 5e-5};  // another order of summation

struct Range {
  std::string name;
  size_t first, count;
};

// Where each parameter is in the flat buffer.
std::vector<Range> ranges(const ModelShape& shape) {
  std::vector<Range> result;
  for (const Parameter& parameter : ParameterTable(shape).parameters)
    result.push_back({parameter.name, static_cast<size_t>(parameter.offset), static_cast<size_t>(parameter.count())});
  return result;
}

struct Case {
  ModelShape shape;
  int64_t batch;
  std::vector<float> weights;
  std::vector<uint8_t> tokens;  // (B, S)
  std::vector<int64_t> labels;  // (B)

  Case(const ModelShape& model, int64_t images, double spread = 0.3) : shape(model), batch(images) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (const auto& [name, first, count] : ranges(shape)) {
      const bool gain = name.find("ln_") != std::string::npos && name.ends_with("weight");
      for (size_t i = 0; i < count; ++i)
        weights.push_back(static_cast<float>(spread) * normal(random) + (gain ? 1.0f : 0.0f));
    }
    for (int64_t i = 0; i < batch * shape.sequence_length; ++i)
      tokens.push_back(static_cast<uint8_t>(random() % static_cast<unsigned>(shape.num_vocab)));
    for (int64_t i = 0; i < batch; ++i) labels.push_back(static_cast<int64_t>(random()) % shape.num_classes);
  }

  std::vector<ReferenceModel::Result> reference(bool classify) const {
    const ReferenceModel model(shape, {weights.begin(), weights.end()});
    std::vector<ReferenceModel::Result> images;
    for (int64_t b = 0; b < batch; ++b)
      images.push_back(model.run(std::span(tokens).subspan(static_cast<size_t>(b * shape.sequence_length),
                                                           static_cast<size_t>(shape.sequence_length)),
                                 classify ? labels[static_cast<size_t>(b)] : -1, labels[static_cast<size_t>(b)]));
    return images;
  }
};

// Largest difference, relative to the largest entry of `expected`.
template <class Actual, class Expected>
double relative_error(const Actual& actual, const Expected& expected, double smallest_scale = 1e-30) {
  double error = 0, largest = smallest_scale;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    error = difference >= 0 ? std::max(error, difference) : INFINITY;
    largest = std::max(largest, std::abs(expected[i]));
  }
  return error / largest;
}

void expect_gradients(const Case& c, const std::vector<float>& actual,
                      const std::vector<ReferenceModel::Result>& images, double denominator, double tolerance) {
  std::vector<double> expected(actual.size());
  for (const auto& image : images)
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += image.gradients[i] / denominator;
  double largest = 1e-9;  // all are zero with a palette of one colour
  for (const double entry : expected) largest = std::max(largest, std::abs(entry));
  for (const auto& [name, first, count] : ranges(c.shape)) {
    // A gradient that is zero by its mathematics (the keys' bias, anything before a single position's softmax) has only
    // rounding to compare.
    EXPECT_LT(relative_error(std::span(actual).subspan(first, count), std::span(expected).subspan(first, count),
                             1e-3 * largest),
              tolerance)
        << name;
  }
}

void expect_generative(const Case& c, FusedStep& step, const Tolerance& tolerance) {
  const auto images = c.reference(/*classify=*/false);
  const auto length = static_cast<double>(c.shape.sequence_length), batch = static_cast<double>(c.batch);
  std::vector<double> logits, nats;
  for (const auto& image : images) {
    logits.insert(logits.end(), image.logits.begin(), image.logits.end());
    nats.push_back(image.nats);
  }
  std::vector<float> actual_logits(logits.size());
  step.logits(c.tokens, c.weights, actual_logits, c.labels);
  EXPECT_LT(relative_error(actual_logits, logits), tolerance.logits);
  std::vector<double> actual_nats(nats.size());
  step.nats(c.tokens, c.weights, actual_nats, c.labels);
  EXPECT_LT(relative_error(actual_nats, nats), tolerance.loss);

  std::vector<float> gradients(c.weights.size());
  double mean = 0;
  for (const double of_image : nats) mean += of_image / (batch * length);
  EXPECT_NEAR(step.generative(c.tokens, c.weights, 1, gradients, c.labels), mean, tolerance.loss * mean);
  expect_gradients(c, gradients, images, batch * length, tolerance.gradients);
}

void expect_classifier(const Case& c, FusedStep& step, const Tolerance& tolerance) {
  const auto images = c.reference(/*classify=*/true);
  std::vector<double> logits;
  double mean = 0;
  for (const auto& image : images) {
    logits.insert(logits.end(), image.logits.begin(), image.logits.end());
    mean += image.nats / static_cast<double>(c.batch);
  }
  std::vector<float> actual_logits(logits.size());
  if (c.shape.conditional) {
    EXPECT_THROW(step.class_logits(c.tokens, c.weights, actual_logits), Error);  // of which class is not said
  } else {
    step.class_logits(c.tokens, c.weights, actual_logits);
    EXPECT_LT(relative_error(actual_logits, logits), tolerance.logits);
  }
  std::vector<float> gradients(c.weights.size());
  EXPECT_NEAR(step.classifier(c.tokens, c.labels, c.weights, 1, gradients), mean, tolerance.logits * (1 + mean));
  expect_gradients(c, gradients, images, static_cast<double>(c.batch), tolerance.gradients);

  // Both losses at once: the reference's gradients of the one and, so many times smaller, of the other.
  const double weight = 0.7, of_pixel = weight / static_cast<double>(c.shape.sequence_length);
  auto both = images;
  const auto generative = c.reference(/*classify=*/false);
  double joint = 0;
  for (size_t image = 0; image < both.size(); ++image) {
    joint += (images[image].nats + of_pixel * generative[image].nats) / static_cast<double>(c.batch);
    for (size_t i = 0; i < gradients.size(); ++i) both[image].gradients[i] += of_pixel * generative[image].gradients[i];
  }
  std::fill(gradients.begin(), gradients.end(), 0.0f);
  EXPECT_NEAR(step.classifier(c.tokens, c.labels, c.weights, 1, gradients, static_cast<float>(weight)), joint,
              tolerance.logits * (1 + joint));
  expect_gradients(c, gradients, both, static_cast<double>(c.batch), tolerance.gradients);
}

// Every kind of vectors that this machine has: the widest, and the narrower ones that other machines would use.
std::vector<int64_t> targets() {
  auto all = hwy::SupportedAndGeneratedTargets();
  hwy::SetSupportedTargetsForTest(0);
  std::vector<int64_t> used;
  std::string last;
  for (const int64_t target : all) {
    hwy::SetSupportedTargetsForTest(target);
    const std::string name = vectors_in_use();
    hwy::SetSupportedTargetsForTest(0);
    if (name != last) used.push_back(target);
    last = name;
    if (thread_sanitized) break;  // threads are the same for all
  }
  return used;
}

struct ShapeCase {
  ModelShape shape;
  int64_t batch;
};

std::string name_of(const ShapeCase& c) {
  const auto& s = c.shape;
  return "D" + std::to_string(s.embed_dim) + "H" + std::to_string(s.num_heads) + "L" + std::to_string(s.num_layers) +
         "S" + std::to_string(s.sequence_length) + "V" + std::to_string(s.num_vocab) + "C" +
         std::to_string(s.num_classes) + "K" + std::to_string(s.neighbours) + "B" + std::to_string(c.batch) +
         (s.pre_norm ? "PreNorm" : "") + (s.final_norm ? "FinalNorm" : "") + (s.rms_norm ? "RmsNorm" : "") +
         (s.quick_gelu ? "QuickGelu" : "") + (s.classifier_bias ? "" : "NoBias") +
         (s.conditional ? "Conditional" : "") + (s.table_rank > 0 ? "R" + std::to_string(s.table_rank) : "") +
         (s.conv_taps > 0 ? "M" + std::to_string(s.conv_taps) : "");
}

class FusedStepParity : public ::testing::TestWithParam<std::tuple<int64_t, ShapeCase>> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(std::get<0>(GetParam())); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }

  const ShapeCase& shape_case() const { return std::get<1>(GetParam()); }
};

TEST_P(FusedStepParity, LogitsLossAndEveryGradientEqualTheReference) {
  const auto& [shape, batch] = shape_case();
  const Case c(shape, batch);
  FusedStep step(shape, 1);
  expect_generative(c, step, kFp32);
}

TEST_P(FusedStepParity, ClassLogitsAndEveryGradientEqualTheReference) {
  const auto& [shape, batch] = shape_case();
  const Case c(shape, batch);
  FusedStep step(shape, 1);
  expect_classifier(c, step, kFp32);
}

const ShapeCase kShapes[] = {
    // embed_dim, num_heads, num_layers, sequence_length, num_vocab, num_classes; batch
    {{16, 2, 2, 1, 16, 10}, 1},
    {{16, 2, 2, 15, 16, 10}, 3},
    {{16, 2, 8, 16, 16, 10}, 1},
    {{16, 2, 1, 17, 16, 1}, 3},
    {{16, 2, 3, 49, 256, 33}, 64},
    {{4, 1, 2, 17, 2, 2}, 3},
    {{8, 2, 2, 33, 5, 3}, 3},
    {{32, 8, 1, 17, 5, 3}, 1},
    {{24, 3, 2, 33, 7, 4}, 1},
    {{8, 1, 2, 16, 5, 3}, 3},
    {{32, 4, 2, 31, 16, 7}, 1},
    {{64, 8, 1, 15, 16, 10}, 1},
    {{16, 1, 2, 47, 16, 10}, 1},
    {{48, 3, 1, 20, 16, 10}, 3},
    {{128, 8, 1, 17, 16, 10}, 1},
    {{32, 1, 2, 18, 16, 10}, 1},
    {{128, 4, 1, 20, 256, 10}, 1},
    {{20, 2, 2, 34, 9, 5}, 3},
    {{27, 3, 2, 17, 11, 5}, 1},
    {{7, 7, 2, 19, 3, 300}, 3},
    {{93, 3, 1, 17, 255, 5}, 1},
    {{1, 1, 1, 5, 1, 1}, 1},
    {{16, 2, 1, 1, 16, 10}, 64},
    {{16, 2, 2, 784, 16, 10}, 1},
    // neighbours, pre_norm and final_norm: image-gpt-2d
    {{16, 2, 2, 49, 16, 10, 12, true, true}, 3},
    {{16, 2, 1, 1, 16, 10, 60, true, true}, 1},
    {{24, 3, 2, 25, 7, 4, 5, true, true}, 3},
    {{20, 2, 2, 36, 9, 5, 24, true, true}, 1},
    {{16, 2, 2, 784, 16, 10, 1, true, true}, 1},
    // each of them without the others
    {{16, 2, 2, 49, 16, 10, 0, false, true}, 3},
    {{20, 2, 2, 34, 9, 5, 0, false, true}, 3},
    {{16, 2, 2, 17, 16, 10, 0, true, false}, 1},
    {{24, 3, 2, 25, 7, 4, 0, true, true}, 1},
    {{16, 2, 2, 25, 16, 10, 12, true, false}, 3},
    {{24, 3, 1, 25, 7, 4, 5, false, false}, 1},
    // igpt: norms without mean and shift, quick GELU, no bias of the classifier
    {{16, 2, 2, 49, 16, 10, 0, true, true, true, true, false}, 3},
    {{20, 2, 2, 34, 9, 5, 0, true, true, true, true, false}, 1},
    // each of them without the others
    {{24, 3, 1, 25, 7, 4, 0, false, true, true}, 3},
    {{16, 2, 1, 25, 16, 10, 12, true, false, false, true}, 1},
    {{16, 2, 1, 17, 16, 10, 0, false, false, false, false, false}, 3},
    // a start token for each class: of the original, image-gpt-2d and igpt
    {{16, 2, 2, 25, 16, 10, 0, false, false, false, false, true, true}, 7},
    {{24, 3, 2, 25, 7, 300, 5, true, true, false, false, true, true}, 5},
    {{16, 2, 1, 17, 16, 3, 0, true, true, true, true, false, true}, 3},
    // products for tables, and convolutions
    {{16, 2, 2, 49, 16, 10, 12, true, true, false, false, true, false, false, 8, 12}, 3},
    {{24, 3, 3, 784, 16, 10, 20, true, true, false, false, true, false, false, 8, 12}, 1},
    {{20, 2, 2, 36, 9, 5, 3, true, true, false, false, true, true, false, 3, 60}, 3},
    // each of them without the others
    {{24, 3, 2, 25, 7, 4, 5, true, true, false, false, true, false, false, 2}, 3},
    {{20, 2, 2, 25, 7, 4, 0, false, false, false, false, true, false, false, 0, 1}, 1},
    {{16, 2, 2, 81, 16, 10, 0, false, true, true, true, false, false, false, 0, 24}, 3}};

INSTANTIATE_TEST_SUITE_P(Shapes, FusedStepParity,
                         ::testing::Combine(::testing::ValuesIn(targets()), ::testing::ValuesIn(kShapes)),
                         [](const auto& test) {
                           return hwy::TargetName(std::get<0>(test.param)) + name_of(std::get<1>(test.param));
                         });

class FusedStepWithVectors : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

INSTANTIATE_TEST_SUITE_P(Targets, FusedStepWithVectors, ::testing::ValuesIn(targets()),
                         [](const auto& test) { return std::string(hwy::TargetName(test.param)); });

// Of all layers: in_proj's rows for q (0), k (1) or v (2), of weights or biases.
template <class Change>
void change_in_proj(Case& c, const std::string& kind, size_t which, const Change& change) {
  for (const auto& [name, first, count] : ranges(c.shape)) {
    if (!name.ends_with("in_proj_" + kind)) continue;
    for (size_t i = 0; i < count / 3; ++i) change(c.weights[first + which * count / 3 + i]);
  }
}

// Logits of hundreds have an absolute error of 5e-5, and the probabilities that relative one.
constexpr Tolerance kHugeLogits{1e-3, 1e-3, 1e-3};

// Weights whose logits of base 2 reach hundreds, as trained models have them, both ways.
TEST_P(FusedStepWithVectors, HugeLogitsEqualTheReference) {
  for (const ModelShape& shape :
       {ModelShape{.num_layers = 1, .sequence_length = 100}, {32, 2, 1, 70, 16, 10}, {8, 2, 1, 70, 16, 10}}) {
    Case c(shape, 2);
    for (const size_t which : {0, 1}) change_in_proj(c, "weight", which, [](float& weight) { weight *= 15; });
    FusedStep step(c.shape, 1);
    expect_generative(c, step, kHugeLogits);
  }
}

// Rows of logits that are all hundreds above or below zero.
TEST_P(FusedStepWithVectors, LogitsFarFromZeroEqualTheReference) {
  for (const float far : {-12.0f, -4.7f, 12.0f, 40.0f})
    for (const ModelShape& shape :
         {ModelShape{.num_layers = 1, .sequence_length = 100}, {32, 2, 1, 70, 16, 10}, {8, 2, 1, 70, 16, 10}}) {
      Case c(shape, 2);
      change_in_proj(c, "bias", 0, [&](float& bias) { bias += std::abs(far); });
      change_in_proj(c, "bias", 1, [&](float& bias) { bias += far; });
      FusedStep step(c.shape, 1);
      expect_generative(c, step, kHugeLogits);
    }
}

TEST_P(FusedStepWithVectors, EqualTokensEqualTheReference) {
  Case c({.num_layers = 2, .sequence_length = 100}, 2);
  for (const auto& [name, first, count] : ranges(c.shape))
    if (name == "position_embeddings.weight") std::fill_n(c.weights.begin() + static_cast<int64_t>(first), count, 0.0f);
  std::fill(c.tokens.begin(), c.tokens.end(), uint8_t{3});
  FusedStep step(c.shape, 1);
  expect_generative(c, step, kFp32);
}

TEST_P(FusedStepWithVectors, ResultsDoNotDependOnTheNumberOfThreads) {
  for (const int64_t batch : {1, 3, 64, 77}) {
    const Case c({.num_layers = 2, .sequence_length = 49, .neighbours = batch == 77 ? 12 : 0, .final_norm = batch != 1},
                 batch);
    FusedStep one(c.shape, 1);
    std::vector<float> expected(c.weights.size()), expected_class(c.weights.size());
    const double loss = one.generative(c.tokens, c.weights, 1, expected);
    const double class_loss = one.classifier(c.tokens, c.labels, c.weights, 1, expected_class);
    for (const int threads : {2, 4}) {
      FusedStep many(c.shape, threads);
      for (int repeat = 0; repeat < 3; ++repeat) {
        std::vector<float> gradients(c.weights.size()), class_gradients(c.weights.size());
        EXPECT_EQ(many.generative(c.tokens, c.weights, 1, gradients), loss);
        EXPECT_EQ(many.classifier(c.tokens, c.labels, c.weights, 1, class_gradients), class_loss);
        EXPECT_EQ(gradients, expected) << threads << " threads, batch " << batch;
        EXPECT_EQ(class_gradients, expected_class) << threads << " threads, batch " << batch;
      }
    }
  }
}

TEST_P(FusedStepWithVectors, NaNWeightsGiveANaNLoss) {
  for (const size_t which : {0, 1, 2}) {
    Case c({.num_layers = 1, .sequence_length = 20}, 1);
    change_in_proj(c, "weight", which, [&](float& weight) { weight = NAN; });
    FusedStep step(c.shape, 1);
    std::vector<float> gradients(c.weights.size());
    EXPECT_TRUE(std::isnan(step.generative(c.tokens, c.weights, 1, gradients))) << which;
  }
}

TEST(FusedStep, GradientsAreAddedAndScaled) {
  const Case c({.num_layers = 1, .sequence_length = 20}, 3);
  FusedStep step(c.shape, 1);
  std::vector<float> once(c.weights.size()), twice(c.weights.size(), 1.0f);
  const double loss = step.generative(c.tokens, c.weights, 1, once);
  EXPECT_EQ(step.generative(c.tokens, c.weights, 3, twice), loss);
  std::vector<double> expected;
  for (const float gradient : once) expected.push_back(1 + 3.0 * gradient);
  EXPECT_LT(relative_error(twice, expected), 1e-6);
}

TEST(FusedStep, TokensLabelsAndSizesAreChecked) {
  Case c({.num_layers = 1, .sequence_length = 20}, 2);
  FusedStep step(c.shape, 1);
  std::vector<float> gradients(c.weights.size()), few(gradients.size() - 1);
  const auto tokens = std::span(c.tokens);
  EXPECT_THROW(step.generative(tokens.first(39), c.weights, 1, gradients), Error);
  EXPECT_THROW(step.generative(tokens, few, 1, gradients), Error);
  EXPECT_THROW(step.generative(tokens, c.weights, 1, few), Error);
  c.labels[1] = 10;
  EXPECT_THROW(step.classifier(tokens, c.labels, c.weights, 1, gradients), InputError);
  c.labels[1] = -1;
  EXPECT_THROW(step.classifier(tokens, c.labels, c.weights, 1, gradients), InputError);
  EXPECT_EQ(step.generative(tokens.first(0), c.weights, 1, gradients), 0);
  c.tokens[39] = 16;
  EXPECT_THROW(step.generative(tokens, c.weights, 1, gradients), InputError);

  EXPECT_EQ(gradients, std::vector<float>(gradients.size()));
}

TEST(FusedStep, LargeModelsAreNotSupported) {
  EXPECT_TRUE(supports({}));
  EXPECT_TRUE(supports({.embed_dim = 128, .num_heads = 4}));
  EXPECT_FALSE(supports({.embed_dim = 128, .num_heads = 2}));  // head dimension 64
  EXPECT_FALSE(supports({.embed_dim = 129, .num_heads = 129}));
  EXPECT_FALSE(supports({.embed_dim = 16, .num_heads = 3}));
  EXPECT_FALSE(supports({.num_vocab = 257}));
  EXPECT_FALSE(supports({.sequence_length = 1 << 20}));
  EXPECT_FALSE(supports({.num_layers = 0}));
  EXPECT_FALSE(supports({.neighbours = 61}));
  EXPECT_FALSE(supports({.sequence_length = 783, .neighbours = 12}));
  EXPECT_THROW(FusedStep({.num_vocab = 257}, 1), Error);
}

}  // namespace
}  // namespace igpt::ops::cpu
