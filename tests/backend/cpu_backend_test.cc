#include <gtest/gtest.h>

#include "architectures.h"
#include "golden.h"
#include "igpt/backend/backend.h"
#include "igpt/error.h"
#include "igpt/model/flat_parameters.h"
#include "igpt/training/flat_optimizer.h"

namespace igpt::backend {
namespace {

using testing::Golden;
using testing::relative_error;
using torch::Tensor;

constexpr double kFusedTolerance = 1e-4;  // of the largest entry

// The flat gradients are the expected ones, up to `tolerance` of the largest entry, and zero elsewhere.
void expect_flat_gradients(const ImageGPT& model, const Tensor& gradients,
                           const std::vector<std::pair<std::string, Tensor>>& expected, double tolerance) {
  const auto parameters = ops::ParameterTable(model->shape()).parameters;
  const auto views = views_of(gradients, parameters);
  EXPECT_GT(expected.size(), 10u);
  for (size_t i = 0; i < views.size(); ++i) {
    const auto found = std::find_if(expected.begin(), expected.end(),
                                    [&](const auto& gradient) { return gradient.first == parameters[i].name; });
    if (found == expected.end())
      EXPECT_EQ(views[i].abs().max().item<float>(), 0) << parameters[i].name;
    else
      EXPECT_LT(relative_error(views[i], found->second), tolerance) << parameters[i].name;
  }
}

class CpuBackendGolden : public ::testing::TestWithParam<const char*> {
 protected:
  CpuBackendGolden() : golden_(GetParam()), model_(golden_.model()), backend_(make_cpu_backend(model_)) {}

  // The losses of ten updates by Adam.
  void expect_training_losses(const Tensor& expected, const Objective& objective) {
    training::FlatOptimizer optimizer(model_->weights(), ops::ParameterTable(model_->shape()).parameters, {});
    const auto x = golden_.tensor("x"), y = golden_.tensor("y");
    for (int64_t step = 0; step < expected.size(0); ++step) {
      optimizer.zero_grad();
      const auto loss = backend_->add_gradients(x[step], y[step], objective, /*scale=*/1, optimizer.gradients());
      EXPECT_NEAR(loss.item<double>(), expected[step].item<double>(), 1e-4) << "step " << step;
      optimizer.step(/*learning_rate=*/0.01);
    }
  }

  const Golden golden_;
  ImageGPT model_;
  std::unique_ptr<Backend> backend_;
};

TEST_P(CpuBackendGolden, LossAndGradientsEqualPyTorch) {
  const auto x = golden_.tensor("x")[0];
  auto gradients = torch::zeros_like(model_->weights());
  const auto loss = backend_->add_gradients(x, {}, {}, /*scale=*/1, gradients);
  EXPECT_NEAR(loss.item<double>(), golden_.number("loss"), 1e-5);
  expect_flat_gradients(model_, gradients, golden_.tensors("gradients"), kFusedTolerance);
  EXPECT_LT(relative_error(backend_->nats_per_image(x), nats_per_image(golden_.tensor("logits"), x)), 1e-5);
}

TEST_P(CpuBackendGolden, ClassLogitsAndGradientsEqualPyTorch) {
  const auto x = golden_.tensor("x")[0], y = golden_.tensor("y")[0];
  EXPECT_LT(relative_error(backend_->class_logits(x), golden_.tensor("class_logits")), kFusedTolerance);
  auto gradients = torch::zeros_like(model_->weights());
  const auto loss = backend_->add_gradients(x, y, {.classify = true}, /*scale=*/1, gradients);
  EXPECT_NEAR(loss.item<double>(),
              torch::nn::functional::cross_entropy(golden_.tensor("class_logits"), y).item<double>(), 1e-5);
  expect_flat_gradients(model_, gradients, golden_.tensors("class_gradients"), kFusedTolerance);
}

TEST_P(CpuBackendGolden, FeaturesOfTheLayersEqualPyTorch) {
  const auto x = golden_.tensor("x")[0], expected = golden_.tensor("layer_features");
  EXPECT_LT(relative_error(backend_->layer_features(x), expected), kFusedTolerance);
  EXPECT_LT(relative_error(make_libtorch_backend(model_)->layer_features(x), expected), kFusedTolerance);
}

TEST_P(CpuBackendGolden, TenTrainingLossesEqualPyTorch) {
  expect_training_losses(golden_.tensor("training_losses"), {});
}

TEST_P(CpuBackendGolden, TenClassifierTrainingLossesEqualPyTorch) {
  expect_training_losses(golden_.tensor("class_training_losses"), {.classify = true});
}

INSTANTIATE_TEST_SUITE_P(All, CpuBackendGolden,
                         ::testing::Values("small", "default_7x7", "wide", "small_2d", "small_norm", "small_2d_plain",
                                           "small_conv", "small_igpt"));

TEST(CpuBackend, LossAndGradientsGivenTheClassEqualThoseOfLibTorch) {
  for (const char* arch : {kOriginalArch, k2dArch, testing::kConvolved, kPaperArch}) {
    torch::manual_seed(2);
    ImageGPTOptions options{.num_layers = 2, .num_pixels = 5, .conditional = true};
    testing::set_architecture(options, arch);
    ImageGPT model(options);
    model->head->weight.detach().normal_();  // the paper's are zero
    const auto x = torch::randint(16, {6, 25}), y = torch::tensor({9, 0, 3, 3, 9, 1});
    const auto cpu = make_cpu_backend(model), libtorch = make_libtorch_backend(model);
    auto actual = torch::zeros_like(model->weights()), expected = torch::zeros_like(actual);
    const auto loss = cpu->add_gradients(x, y, {}, /*scale=*/2, actual);
    EXPECT_NEAR(loss.item<double>(), libtorch->add_gradients(x, y, {}, /*scale=*/2, expected).item<double>(), 1e-5);
    EXPECT_LT(relative_error(actual, expected), kFusedTolerance) << arch;
    const auto starts = expected.narrow(0, 0, model->sos.numel()).view_as(model->sos);
    EXPECT_GT(starts[3].abs().max().item<double>(), 0) << arch;
    EXPECT_EQ(starts[2].abs().max().item<double>(), 0) << arch;
    const auto nats = libtorch->nats_per_image(x, y);
    EXPECT_LT(relative_error(cpu->nats_per_image(x, y), nats), 1e-5) << arch;
    EXPECT_GT(relative_error(cpu->nats_per_image(x, 9 - y), nats), 1e-5) << arch;
    EXPECT_THROW(cpu->nats_per_image(x, y + 1), InputError) << arch;
    EXPECT_THROW(cpu->class_logits(x), Error) << arch;
  }
}

TEST(CpuBackend, GradientsAreScaledAndAdded) {
  const Golden golden("small");
  const auto model = golden.model();
  const auto backend = make_cpu_backend(model);
  const auto x = golden.tensor("x")[0];
  auto once = torch::zeros({ops::ParameterTable(model->shape()).count}), more = torch::ones_like(once);
  backend->add_gradients(x, {}, {}, /*scale=*/1, once);
  backend->add_gradients(x, {}, {}, /*scale=*/4, more);
  EXPECT_LT(relative_error(more, 1 + once * 4), 1e-6);
}

TEST(CpuBackend, ReadsTheWeightsThatTheModelHasNow) {
  const Golden golden("small");
  auto model = golden.model();
  const auto backend = make_cpu_backend(model);
  const auto x = golden.tensor("x")[0];
  {
    const torch::NoGradGuard no_grad;
    model->head->weight.zero_();
  }
  const double per_pixel = std::log(static_cast<double>(model->shape().num_vocab));
  EXPECT_NEAR(backend->nats_per_image(x)[0].item<double>(), per_pixel * static_cast<double>(x.size(1)), 1e-3);
}

TEST(CpuBackend, WrongShapesTokensAndLabelsAreRefused) {
  const Golden golden("small");
  const auto model = golden.model();
  const auto backend = make_cpu_backend(model);
  const auto x = golden.tensor("x")[0], y = golden.tensor("y")[0];
  auto gradients = torch::zeros({ops::ParameterTable(model->shape()).count});
  const auto add = [&](const Tensor& tokens, const Tensor& labels, const Tensor& to) {
    backend->add_gradients(tokens, labels, {.classify = labels.defined()}, /*scale=*/1, to);
  };
  EXPECT_THROW(add(x.slice(1, 1), {}, gradients), Error);
  EXPECT_THROW(add(x.to(torch::kFloat32), {}, gradients), Error);
  EXPECT_THROW(add(x + 256, {}, gradients), InputError);
  EXPECT_THROW(add(x - 1 - x, {}, gradients), InputError);
  EXPECT_THROW(add(x, y + 3, gradients), InputError);
  EXPECT_THROW(add(x, y.slice(0, 1), gradients), Error);
  EXPECT_THROW(add(x, {}, gradients.slice(0, 1)), Error);
}

TEST(CpuBackend, IsForSmallModelsInFp32) {
  EXPECT_TRUE(make_cpu_backend(ImageGPT()));
  EXPECT_FALSE(make_cpu_backend(ImageGPT(ImageGPTOptions{.embed_dim = 512, .num_heads = 8, .num_layers = 1})));
  ImageGPT doubles;
  doubles->to(torch::kFloat64);
  EXPECT_FALSE(make_cpu_backend(doubles));
}

TEST(MakeBackend, TakesFp32WhereBf16IsAskedForOfASmallModelAndSaysSo) {
  std::vector<std::string> notes;
  const auto backend =
      make_backend(ImageGPT(), {.bf16 = true, .note = [&](const auto& line) { notes.push_back(line); }});
  EXPECT_TRUE(backend->is_fused());
  EXPECT_EQ(notes, std::vector<std::string>{"computing in fp32, which is faster than bf16 for a small model on a CPU"});
}

}  // namespace
}  // namespace igpt::backend
