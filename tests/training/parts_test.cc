#include <gtest/gtest.h>
#include <torch/optim.h>

#include <algorithm>
#include <set>

#include "igpt/data/shuffle.h"
#include "igpt/model/flat_parameters.h"
#include "igpt/training/augment.h"
#include "igpt/training/ema.h"
#include "igpt/training/flat_optimizer.h"
#include "igpt/training/schedule.h"
#include "igpt/training/token_dataset.h"

namespace igpt::training {
namespace {

TEST(Schedule, CosineIsPyTorchsSteppedEveryUpdate) {
  TrainOptions o;
  o.steps = 100;
  o.schedule = "cosine";
  o.hold = 0;
  EXPECT_DOUBLE_EQ(learning_rate(o, 0), 0.01);
  EXPECT_DOUBLE_EQ(learning_rate(o, 50), 0.005);
  EXPECT_NEAR(learning_rate(o, 99), 0.01 * 0.5 * (1 + std::cos(M_PI * 0.99)), 1e-15);
  EXPECT_NEAR(learning_rate(o, 100), 0, 1e-15);
}

TEST(Schedule, WarmupHoldAndLinearFall) {
  TrainOptions o;
  o.steps = 100;
  o.schedule = "linear";
  o.warmup_steps = 10;
  o.hold = 0.6;
  EXPECT_DOUBLE_EQ(learning_rate(o, 0), 0.001);
  EXPECT_DOUBLE_EQ(learning_rate(o, 9), 0.01);
  EXPECT_DOUBLE_EQ(learning_rate(o, 60), 0.01);
  EXPECT_DOUBLE_EQ(learning_rate(o, 80), 0.005);
  EXPECT_NEAR(learning_rate(o, 100), 0, 1e-15);
  o.schedule = "constant";
  EXPECT_DOUBLE_EQ(learning_rate(o, 99), 0.01);
  o.schedule = "linear";
  o.hold = 1;
  EXPECT_DOUBLE_EQ(learning_rate(o, 99), 0.01);
}

TEST(Schedule, WarmupAndAverageFollowFromTheImagesOfAnUpdate) {
  TrainOptions o;
  EXPECT_EQ(complete(o).warmup_steps, 100);
  EXPECT_DOUBLE_EQ(*complete(o).ema, 0.99);
  o.batch_size = 8;
  o.accumulate = 2;
  EXPECT_EQ(complete(o).warmup_steps, 400);
  EXPECT_DOUBLE_EQ(*complete(o).ema, 0.9975);
  o.steps = 200;
  EXPECT_EQ(complete(o).warmup_steps, 10);
  o.batch_size = 10000;
  EXPECT_EQ(complete(o).warmup_steps, 0);
  EXPECT_EQ(complete(o).ema, 0);
  o.warmup_steps = 7;
  o.ema = 0.5;
  EXPECT_EQ(complete(o).warmup_steps, 7);
  EXPECT_EQ(complete(o).ema, 0.5);
}

TEST(Schedule, MuonsMomentumRisesDuringThreeWarmups) {
  TrainOptions o;
  EXPECT_EQ(muon_momentum(o, 0), 0.95);
  o.warmup_steps = 10;
  EXPECT_DOUBLE_EQ(muon_momentum(o, 0), 0.85);
  EXPECT_DOUBLE_EQ(muon_momentum(o, 15), 0.9);
  EXPECT_EQ(muon_momentum(o, 30), 0.95);
  EXPECT_EQ(muon_momentum(o, 10000), 0.95);
  o.muon_momentum = 0.6;
  EXPECT_EQ(muon_momentum(o, 0), 0.6);
}

TEST(BatchOrder, EachEpochReadsEveryImageOnceWithoutAGap) {
  BatchOrder order(10, 3), again(10, 3);
  std::vector<int64_t> read;
  for (int64_t position = 0; position < 30; position += 6) {
    const auto batch = order.batch(position, 6);
    read.insert(read.end(), batch.data_ptr<int64_t>(), batch.data_ptr<int64_t>() + 6);
  }
  for (int epoch = 0; epoch < 3; ++epoch)
    EXPECT_EQ(std::set<int64_t>(read.begin() + 10 * epoch, read.begin() + 10 * (epoch + 1)).size(), 10u);
  EXPECT_TRUE(torch::equal(again.batch(18, 6), order.batch(18, 6)));  // any place can be reached directly
}

TEST(Split, TakesATenthForValidationByTheSeedAlone) {
  const auto dataset = [] {
    return TokenDataset{torch::arange(100, torch::kInt64).to(torch::kUInt8).unsqueeze(1), torch::arange(100)};
  };
  const auto [train, validation] = split_for_validation(dataset(), 1);
  EXPECT_EQ(train.size(), 90);
  EXPECT_EQ(validation.size(), 10);
  const auto [sorted, order] = torch::cat({train.labels, validation.labels}).sort();
  EXPECT_TRUE(torch::equal(sorted, torch::arange(100)));
  EXPECT_TRUE(torch::equal(train.tokens.squeeze(1).to(torch::kInt64), train.labels));  // images keep their labels
  EXPECT_FALSE(torch::equal(split_for_validation(dataset(), 2).second.labels, validation.labels));
}

// The order of the data set that the seeds of older runs gave.
TEST(Split, IsThePermutationOfTheSeedWithoutACopy) {
  for (const int64_t size : {2, 3, 10, 1000}) {
    const auto values = torch::arange(2 * size, torch::kInt16).view({size, 2});
    const TokenDataset dataset{values.clone(), torch::arange(size)};
    const void* const memory = dataset.tokens.data_ptr();
    const auto [train, validation] = split_for_validation(dataset, 7);
    const auto order = torch::tensor(data::shuffled_indices(size, 7, /*stream=*/-1), torch::kInt64);
    EXPECT_TRUE(torch::equal(torch::cat({train.tokens, validation.tokens}), values.index_select(0, order))) << size;
    EXPECT_TRUE(torch::equal(torch::cat({train.labels, validation.labels}), order)) << size;
    EXPECT_EQ(train.tokens.data_ptr(), memory);
    EXPECT_TRUE(train.tokens.is_contiguous() && validation.tokens.is_contiguous());
  }
}

TEST(Split, IsTakenOverFromTheFileWithoutACopy) {
  data::Split split{.count = 2, .num_pixels = 1, .tokens = std::vector<int16_t>{300, 4}, .labels = {7, 8}};
  const void* const memory = std::get<std::vector<int16_t>>(split.tokens).data();
  const auto dataset = make_token_dataset(split);
  EXPECT_EQ(dataset.tokens.data_ptr(), memory);
  EXPECT_TRUE(torch::equal(dataset.tokens, torch::tensor({{300}, {4}}, torch::kInt16)));
  EXPECT_TRUE(torch::equal(dataset.labels, torch::tensor({7, 8}, torch::kInt64)));
}

TEST(FlatOptimizer, ClipsToTheCommonNorm) {
  FlatOptimizer optimizer(torch::zeros({3}), {{"a", {2}, 0}, {"b", {1}, 2}}, {});
  optimizer.gradients().copy_(torch::tensor({3, 3, 4}));
  const auto norm = optimizer.clip_grad_norm(1.0);
  EXPECT_NEAR(norm.item<double>(), std::sqrt(34), 1e-6);
  EXPECT_NEAR(optimizer.gradients().norm().item<double>(), 1.0, 1e-5);
  EXPECT_NEAR(optimizer.gradients()[2].item<double>() / optimizer.gradients()[0].item<double>(), 4.0 / 3, 1e-6);
  optimizer.gradients().narrow(0, 0, 2).add_(1);
  optimizer.clip_grad_norm(100);  // below: untouched
  EXPECT_NEAR(optimizer.gradients()[1].item<double>(), 1 + 3 / std::sqrt(34), 1e-5);
}

// One body for Adam and AdamW of LibTorch, and for each way in which ours is computed.
template <class Reference, class ReferenceOptions>
void expect_equal_updates(const Adam::Options& options, ReferenceOptions reference_options, int64_t rows,
                          torch::Dtype dtype) {
  torch::manual_seed(2);
  const auto start = torch::randn({rows, 4}, dtype);
  const auto ours = start.flatten().clone();
  auto theirs = start.clone().requires_grad_();
  FlatOptimizer optimizer(ours, {{"weight", {rows, 4}, 0}}, options);
  Reference reference({theirs}, reference_options);
  for (int step = 0; step < 20; ++step) {
    optimizer.zero_grad();
    reference.zero_grad();
    optimizer.gradients().copy_(4 * (ours - 1).pow(3));
    (theirs - 1).pow(4).sum().backward();
    optimizer.step(0.02);
    reference.step();
  }
  EXPECT_LT((ours.view({rows, 4}) - theirs).abs().max().item<double>(), 2e-6);
}

using RowsAndType = std::pair<int64_t, torch::Dtype>;
class AdamOfSize : public ::testing::TestWithParam<RowsAndType> {};

TEST_P(AdamOfSize, EqualsPyTorchs) {
  const auto [rows, dtype] = GetParam();
  expect_equal_updates<torch::optim::Adam>({}, torch::optim::AdamOptions(0.02), rows, dtype);
}

TEST_P(AdamOfSize, EqualsPyTorchsAdamWWithDecayAndOtherBetas) {
  const auto [rows, dtype] = GetParam();
  expect_equal_updates<torch::optim::AdamW>({.beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.3},
                                            torch::optim::AdamWOptions(0.02).betas({0.8, 0.95}).weight_decay(0.3), rows,
                                            dtype);
}

INSTANTIATE_TEST_SUITE_P(Sizes, AdamOfSize,
                         ::testing::Values(RowsAndType{3, torch::kFloat32}, RowsAndType{3, torch::kFloat64},
                                           RowsAndType{1 << 17, torch::kFloat32}));

TEST(Ema, KeepsLittleOfTheStartAndDecayLater) {
  ImageGPT model(ImageGPTOptions{
      .embed_dim = 8, .num_heads = 2, .num_layers = 1, .num_pixels = 2, .num_vocab = 4, .num_classes = 2});
  Ema average(model, 0.9);
  const auto weights = model->weights();
  auto expected = weights.to(torch::kFloat64);
  for (int64_t update = 1; update <= 100; ++update) {
    {
      torch::NoGradGuard no_grad;
      weights.normal_();
    }
    const double kept = std::min(0.9, (1.0 + static_cast<double>(update)) / (10.0 + static_cast<double>(update)));
    expected = kept * expected + (1 - kept) * weights.to(torch::kFloat64);
    average.add(weights, update);
  }
  EXPECT_LT((average.weights() - expected).abs().max().item<double>(), 1e-5);
  EXPECT_GT((weights - expected).abs().max().item<double>(), 0.1);  // the model itself is left alone
}

class AugmentPadding : public ::testing::TestWithParam<const char*> {};

TEST_P(AugmentPadding, FillsWhatShiftsLeaveFree) {
  const std::string padding = GetParam();
  const auto image = torch::arange(16, torch::kUInt8).reshape({4, 4});
  const auto images = image.flatten().expand({1000, 16});
  const auto result = augment(images, {.shift = 2, .padding = padding, .flip = true}, 3, 0);
  EXPECT_EQ(result.scalar_type(), torch::kUInt8);
  std::set<std::vector<int>> expected, found;
  const auto of_mode = [&](torch::nn::functional::PadFuncOptions options) {
    return torch::nn::functional::pad(image.to(torch::kFloat32).view({1, 1, 4, 4}), options)[0][0];
  };
  const torch::nn::functional::PadFuncOptions by_two({2, 2, 2, 2});
  const auto padded = padding == "edge" ? of_mode(torch::nn::functional::PadFuncOptions(by_two).mode(torch::kReplicate))
                                        : of_mode(torch::nn::functional::PadFuncOptions(by_two).mode(torch::kReflect));
  for (const bool flip : {false, true})
    for (int64_t down = 0; down <= 4; ++down)
      for (int64_t right = 0; right <= 4; ++right) {
        const auto source = flip ? padded.flip(1) : padded;
        const auto crop = source.narrow(0, down, 4).narrow(1, right, 4).to(torch::kInt32).contiguous();
        expected.emplace(crop.data_ptr<int>(), crop.data_ptr<int>() + 16);
      }
  for (int64_t b = 0; b < 1000; ++b) {
    const auto row = result[b].contiguous();
    found.emplace(row.data_ptr<uint8_t>(), row.data_ptr<uint8_t>() + 16);
  }
  EXPECT_EQ(found, expected);  // each of the 50, and nothing else
}

INSTANTIATE_TEST_SUITE_P(Paddings, AugmentPadding, ::testing::Values("edge", "reflect"),
                         [](const auto& padding) { return std::string(padding.param); });

TEST(Augment, DependsOnTheSeedAndTheImagesPlaceAlone) {
  const auto images = torch::randint(0, 16, {10, 49}, torch::kUInt8);
  const Augmentation augmentation{.shift = 2};
  const auto whole = augment(images, augmentation, 7, 100);
  EXPECT_TRUE(torch::equal(augment(images.narrow(0, 4, 6), augmentation, 7, 104), whole.narrow(0, 4, 6)));
  EXPECT_FALSE(torch::equal(augment(images, augmentation, 8, 100), whole));
}

}  // namespace
}  // namespace igpt::training
