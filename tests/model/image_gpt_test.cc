#include "igpt/model/image_gpt.h"

#include <gtest/gtest.h>

#include "architectures.h"
#include "golden.h"
#include "igpt/backend/backend.h"
#include "igpt/error.h"
#include "igpt/model/autocast.h"
#include "igpt/training/flat_optimizer.h"

namespace igpt {
namespace {

using testing::expect_gradients;
using testing::Golden;
using testing::relative_error;

constexpr double kTolerance = 2e-5;  // of the largest entry, fp32 in another order of summation

// The keys' bias adds the same to all logits of a query, so its gradient is zero but for rounding, which Adam blows up.
torch::Tensor without_key_bias(const std::string& name, const torch::Tensor& parameter) {
  if (!name.ends_with("in_proj_bias")) return parameter;
  const auto thirds = parameter.detach().chunk(3);  // q, k, v
  return torch::cat({thirds[0], thirds[2]});
}

class ImageGPTGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(ImageGPTGolden, LogitsLossAndGradientsEqualPyTorch) {
  const Golden golden(GetParam());
  for (const bool checkpointing : {false, true}) {
    auto model = golden.model();
    model->set_activation_checkpointing(checkpointing);
    const auto x = golden.tensor("x")[0];
    const auto logits = model->forward(x);
    EXPECT_LT(relative_error(logits, golden.tensor("logits")), kTolerance);
    const auto loss = generative_loss(logits, x);
    EXPECT_NEAR(loss.item<double>(), golden.number("loss"), 1e-5);
    loss.backward();
    expect_gradients(model, golden.tensors("gradients"), kTolerance);
  }
}

// The second forward pass computes in the first one's precision: then every gradient is the same bit for bit.
TEST(ImageGPT, ActivationCheckpointingChangesNothingInBf16) {
  torch::manual_seed(1);
  ImageGPT model(ImageGPTOptions{.embed_dim = 32, .num_heads = 2, .num_layers = 2, .num_pixels = 6});
  const auto x = torch::randint(16, {3, 36}, torch::kUInt8);
  std::vector<torch::Tensor> gradients[2];
  for (const bool checkpointing : {false, true}) {
    model->zero_grad();
    model->set_activation_checkpointing(checkpointing);
    torch::Tensor loss;
    {
      const Bf16Autocast autocast(torch::kCPU, true);
      loss = generative_loss(model->forward(x).to(torch::kFloat32), x);
    }
    loss.backward();
    for (const auto& entry : model->named_parameters())
      if (entry.value().grad().defined()) gradients[checkpointing].push_back(entry.value().grad().clone());
  }
  ASSERT_EQ(gradients[0].size(), gradients[1].size());
  for (size_t i = 0; i < gradients[0].size(); ++i) EXPECT_TRUE(torch::equal(gradients[0][i], gradients[1][i])) << i;
}

TEST_P(ImageGPTGolden, ClassLogitsAndGradientsEqualPyTorch) {
  const Golden golden(GetParam());
  auto model = golden.model();
  const auto logits = model->classify(golden.tensor("x")[0]);
  EXPECT_LT(relative_error(logits, golden.tensor("class_logits")), kTolerance);
  torch::nn::functional::cross_entropy(logits, golden.tensor("y")[0]).backward();
  expect_gradients(model, golden.tensors("class_gradients"), kTolerance);
}

TEST_P(ImageGPTGolden, TenTrainingLossesEqualPyTorch) {
  const Golden golden(GetParam());
  auto model = golden.model();
  training::FlatOptimizer optimizer(model->weights(), ops::ParameterTable(model->shape()).parameters, {});
  const auto backend = backend::make_libtorch_backend(model);
  const auto x = golden.tensor("x");
  const auto expected = golden.tensor("training_losses");
  for (int64_t step = 0; step < expected.size(0); ++step) {
    optimizer.zero_grad();
    const auto loss = backend->add_gradients(x[step], {}, {}, /*scale=*/1, optimizer.gradients());
    EXPECT_NEAR(loss.item<double>(), expected[step].item<double>(), 1e-4) << "step " << step;
    optimizer.step(/*learning_rate=*/0.01);
  }
  auto parameters = model->named_parameters();
  for (const auto& [name, weights] : golden.tensors("trained_weights"))
    EXPECT_LT(relative_error(without_key_bias(name, parameters[name]), without_key_bias(name, weights)), 2e-3) << name;
}

TEST_P(ImageGPTGolden, TenClassifierTrainingLossesEqualPyTorch) {
  const Golden golden(GetParam());
  auto model = golden.model();
  training::FlatOptimizer optimizer(model->weights(), ops::ParameterTable(model->shape()).parameters, {});
  const auto backend = backend::make_libtorch_backend(model);
  const auto x = golden.tensor("x"), y = golden.tensor("y");
  const auto expected = golden.tensor("class_training_losses");
  for (int64_t step = 0; step < expected.size(0); ++step) {
    optimizer.zero_grad();
    const auto loss = backend->add_gradients(x[step], y[step], {.classify = true}, /*scale=*/1, optimizer.gradients());
    EXPECT_NEAR(loss.item<double>(), expected[step].item<double>(), 1e-4) << "step " << step;
    optimizer.step(/*learning_rate=*/0.01);
  }
}

TEST_P(ImageGPTGolden, DecodingWithACacheEqualsTheWholeForward) {
  const Golden golden(GetParam());
  torch::NoGradGuard no_grad;
  auto model = golden.model();
  const auto x = golden.tensor("x")[0];
  const auto expected = model->forward(x);  // (B, S, V)
  auto cache = model->make_cache(x.size(0));
  for (int64_t position = 0; position < x.size(1); ++position) {
    const auto previous = position == 0 ? torch::Tensor() : x.select(1, position - 1);
    const auto logits = model->decode(previous, position, cache);
    EXPECT_LT(relative_error(logits, expected.select(1, position)), kTolerance) << "position " << position;
  }
}

TEST_P(ImageGPTGolden, ParameterShapesAreThoseOfTheModel) {
  const auto options = Golden(GetParam()).options();
  const auto parameters = ImageGPT(options)->named_parameters();
  const auto shapes = ops::ParameterTable(shape_of(options)).parameters;
  ASSERT_EQ(parameters.size(), shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i) {
    EXPECT_EQ(parameters[i].key(), shapes[i].name);
    EXPECT_EQ(parameters[i].value().sizes().vec(), shapes[i].sizes) << shapes[i].name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ImageGPTGolden,
                         ::testing::Values("small", "default_7x7", "wide", "small_2d", "small_norm", "small_2d_plain",
                                           "small_conv", "small_igpt"));

TEST(ImageGPT, DefaultHas39514Parameters) {
  int64_t count = 0;
  for (const auto& parameter : ImageGPT()->parameters()) count += parameter.numel();
  EXPECT_EQ(count, 39514);
}

TEST(ImageGPT, InitialValuesArePyTorchs) {
  torch::manual_seed(0);
  ImageGPT model;
  const auto block = model->layers[0]->as<Block>();
  EXPECT_EQ(block->attn->in_proj_bias.abs().max().item<float>(), 0);
  EXPECT_EQ(block->attn->out_proj->bias.abs().max().item<float>(), 0);
  const double xavier = std::sqrt(6.0 / (16 + 48));
  EXPECT_LE(block->attn->in_proj_weight.abs().max().item<double>(), xavier);
  EXPECT_GT(block->attn->in_proj_weight.abs().max().item<double>(), 0.9 * xavier);
  EXPECT_NEAR(model->position_embeddings->weight.std().item<double>(), 1.0, 0.05);
  EXPECT_LE(model->head->weight.abs().max().item<double>(), 0.25);  // 1 / sqrt(D)
}

// Given a class, the model is the one that has that class's start token for all images. The other one needs no start
// token of image-gpt-2d if the row for what is outside, of the first neighbour at the first position, equals it.
TEST(ImageGPT, AClassChoosesTheStartToken) {
  const torch::NoGradGuard no_grad;
  for (const char* arch : {kOriginalArch, k2dArch, testing::kConvolved, kPaperArch}) {
    ImageGPTOptions options{.num_layers = 2, .num_pixels = 4, .num_classes = 3};
    testing::set_architecture(options, arch);
    torch::manual_seed(2);
    ImageGPT single(options);
    options.conditional = true;
    ImageGPT model(options);
    auto of_single = single->named_parameters();
    for (auto& parameter : model->named_parameters())
      if (parameter.key() != "sos") parameter.value().copy_(of_single[parameter.key()]);
    model->sos.normal_();
    single->head->weight.normal_();  // the paper's are zero
    model->head->weight.copy_(single->head->weight);
    const auto x = torch::randint(16, {3, 16});
    const auto labels = torch::tensor({2, 0, 2});
    const auto own = single->sos.defined() ? single->sos : single->neighbour_tables()[options.num_vocab];
    model->sos[2].copy_(own);
    const auto given = model->forward(x, labels), expected = single->forward(x);
    for (const int64_t image : {0, 2}) EXPECT_LT(relative_error(given[image], expected[image]), kTolerance) << arch;
    EXPECT_GT(relative_error(given[1], expected[1]), 1e-3) << arch;
    EXPECT_THROW(model->forward(x), Error) << arch;
    auto cache = model->make_cache(3);
    for (int64_t position = 0; position < 16; ++position) {
      const auto logits = model->decode(position == 0 ? labels : x.select(1, position - 1), position, cache);
      EXPECT_LT(relative_error(logits, given.select(1, position)), kTolerance) << arch << ", position " << position;
    }
  }
}

TEST(ImageGPT, ContradictingOptionsNameTheOption) {
  try {
    ImageGPT(ImageGPTOptions{.embed_dim = 15, .num_heads = 2});
    FAIL() << "no exception";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "--embed_dim 15: must be a multiple of --num_heads 2");
  }
  EXPECT_THROW(ImageGPT(ImageGPTOptions{.num_layers = 0}), UsageError);
  EXPECT_THROW(ImageGPT(ImageGPTOptions{.num_vocab = 16, .palette = {1, 2, 3}}), UsageError);
}

TEST(ImageGPT, PaletteIsThatOfItsOptionsOrEvenlySpacedGreys) {
  EXPECT_TRUE(torch::equal(ImageGPT()->palette().squeeze(1).to(torch::kInt64), torch::arange(16) * 17));
  const ImageGPT colours(
      ImageGPTOptions{.num_layers = 1, .num_vocab = 2, .channels = 3, .palette = {1, 2, 3, 250, 251, 252}});
  EXPECT_TRUE(torch::equal(colours->palette(), torch::tensor({{1, 2, 3}, {250, 251, 252}}, torch::kUInt8)));
}

}  // namespace
}  // namespace igpt
