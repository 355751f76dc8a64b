#include "igpt/model/fused_model.h"

#include <gtest/gtest.h>

#include "golden.h"
#include "igpt/error.h"
#include "igpt/training/flat_adam.h"

namespace igpt {
namespace {

using testing::expect_gradients;
using testing::Golden;
using testing::relative_error;

constexpr double kFusedTolerance = 1e-4;  // of the largest entry

class FusedModelGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(FusedModelGolden, LogitsLossAndGradientsEqualPyTorch) {
  const Golden golden(GetParam());
  auto model = golden.model();
  FusedModel fused(golden.options(), /*threads=*/2);
  const auto x = golden.tensor("x")[0];
  EXPECT_LT(relative_error(fused.logits(x, model->parameters()), golden.tensor("logits")), kFusedTolerance);
  const auto loss = fused.generative_loss(x, model->parameters());
  EXPECT_NEAR(loss.item<double>(), golden.number("loss"), 1e-5);
  loss.backward();
  expect_gradients(model, golden.tensors("gradients"), kFusedTolerance);
}

TEST_P(FusedModelGolden, ClassLogitsAndGradientsEqualPyTorch) {
  const Golden golden(GetParam());
  auto model = golden.model();
  FusedModel fused(golden.options(), /*threads=*/2);
  const auto x = golden.tensor("x")[0], y = golden.tensor("y")[0];
  EXPECT_LT(relative_error(fused.class_logits(x, model->parameters()), golden.tensor("class_logits")), kFusedTolerance);
  fused.classifier_loss(x, y, model->parameters()).backward();
  expect_gradients(model, golden.tensors("class_gradients"), kFusedTolerance);
}

TEST_P(FusedModelGolden, TenTrainingLossesEqualPyTorch) {
  const Golden golden(GetParam());
  auto model = golden.model();
  FusedModel fused(golden.options(), /*threads=*/2);
  training::FlatAdam adam(model->parameters(), {});
  const auto x = golden.tensor("x");
  const auto expected = golden.tensor("training_losses");
  for (int64_t step = 0; step < expected.size(0); ++step) {
    adam.zero_grad();
    const double loss = fused.add_generative_gradients(x[step], model->parameters());
    EXPECT_NEAR(loss, expected[step].item<double>(), 1e-4) << "step " << step;
    adam.step(/*learning_rate=*/0.01);
  }
}

TEST_P(FusedModelGolden, TenClassifierTrainingLossesEqualPyTorch) {
  const Golden golden(GetParam());
  auto model = golden.model();
  FusedModel fused(golden.options(), /*threads=*/2);
  training::FlatAdam adam(model->parameters(), {});
  const auto x = golden.tensor("x"), y = golden.tensor("y");
  const auto expected = golden.tensor("class_training_losses");
  for (int64_t step = 0; step < expected.size(0); ++step) {
    adam.zero_grad();
    const double loss = fused.add_classifier_gradients(x[step], y[step], model->parameters());
    EXPECT_NEAR(loss, expected[step].item<double>(), 1e-4) << "step " << step;
    adam.step(/*learning_rate=*/0.01);
  }
}

TEST_P(FusedModelGolden, FlatAndSeparateParametersGiveTheSame) {
  const Golden golden(GetParam());
  FusedModel fused(golden.options(), /*threads=*/1);
  const auto x = golden.tensor("x")[0];
  auto separate = golden.model(), flat = golden.model();
  for (auto& parameter : separate->parameters()) parameter.mutable_grad() = torch::ones_like(parameter);
  training::FlatAdam adam(flat->parameters(), {});
  adam.gradients().fill_(1);
  EXPECT_EQ(fused.add_generative_gradients(x, separate->parameters(), 0.5),
            fused.add_generative_gradients(x, flat->parameters(), 0.5));
  for (size_t i = 0; i < flat->parameters().size(); ++i)
    EXPECT_LT(relative_error(flat->parameters()[i].grad(), separate->parameters()[i].grad()), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(All, FusedModelGolden,
                         ::testing::Values("small", "default_7x7", "wide", "small_2d", "small_norm", "small_2d_plain"));

TEST(FusedModel, WithoutGradientsOnlyTheForwardPassRuns) {
  const Golden golden("small");
  auto model = golden.model();
  FusedModel fused(golden.options(), /*threads=*/1);
  const auto x = golden.tensor("x")[0], y = golden.tensor("y")[0];
  const auto loss = fused.generative_loss(x, model->parameters());
  EXPECT_TRUE(loss.requires_grad());
  const torch::NoGradGuard no_grad;
  const auto forward_loss = fused.generative_loss(x, model->parameters());
  EXPECT_FALSE(forward_loss.requires_grad());
  EXPECT_NEAR(forward_loss.item<double>(), loss.item<double>(), 1e-6);
  EXPECT_NEAR(fused.classifier_loss(x, y, model->parameters()).item<double>(),
              torch::nn::functional::cross_entropy(golden.tensor("class_logits"), y).item<double>(), 1e-5);
  EXPECT_LT(relative_error(fused.nats_per_image(x, model->parameters()), nats_per_image(golden.tensor("logits"), x)),
            1e-5);
}

TEST(FusedModel, TheGradientFollowsThatOfTheLoss) {
  const Golden golden("small");
  auto once = golden.model(), scaled = golden.model();
  FusedModel fused(golden.options(), /*threads=*/1);
  const auto x = golden.tensor("x")[0];
  fused.generative_loss(x, once->parameters()).backward();
  (fused.generative_loss(x, scaled->parameters()) * 4).backward();
  EXPECT_TRUE(torch::equal(scaled->sos.grad(), once->sos.grad() * 4));
}

TEST(FusedModel, WrongShapesAndTokensAreRefused) {
  const Golden golden("small");
  auto model = golden.model();
  FusedModel fused(golden.options(), /*threads=*/1);
  const auto x = golden.tensor("x")[0], y = golden.tensor("y")[0];
  const auto parameters = model->parameters();
  EXPECT_THROW(fused.generative_loss(x.slice(1, 1), parameters), Error);
  EXPECT_THROW(fused.generative_loss(x.to(torch::kFloat32), parameters), Error);
  EXPECT_THROW(fused.generative_loss(x + 256, parameters), InputError);
  EXPECT_THROW(fused.generative_loss(x - 1 - x, parameters), InputError);
  EXPECT_THROW(fused.classifier_loss(x, y + 3, parameters), InputError);
  EXPECT_THROW(fused.classifier_loss(x, y.slice(0, 1), parameters), Error);
  EXPECT_THROW(fused.add_generative_gradients(x, parameters), Error);  // no gradients to add to
  EXPECT_THROW(fused.generative_loss(x, at::TensorList(parameters).slice(1)), Error);
  auto doubles = golden.model();
  doubles->to(torch::kFloat64);
  EXPECT_THROW(fused.generative_loss(x, doubles->parameters()), Error);
}

TEST(FusedModel, SupportsSmallModelsOnTheCPU) {
  EXPECT_TRUE(FusedModel::supports({}, torch::kCPU));
  EXPECT_FALSE(FusedModel::supports({}, torch::kCUDA));
  ImageGPTOptions wide;
  wide.embed_dim = 512;
  EXPECT_FALSE(FusedModel::supports(wide, torch::kCPU));
}

}  // namespace
}  // namespace igpt
