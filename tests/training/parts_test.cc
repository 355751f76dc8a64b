#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "igpt/training/flat_adam.h"
#include "igpt/training/schedule.h"
#include "igpt/training/token_dataset.h"

namespace igpt::training {
namespace {

TEST(Schedule, CosineIsPyTorchsSteppedEveryUpdate) {
  TrainOptions o;
  o.steps = 100;
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

TEST(ShuffledIndices, ArePermutationsFixedBySeedAndStream) {
  const auto a = shuffled_indices(1000, 1, 0);
  auto sorted = a;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> all(1000);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(sorted, all);
  EXPECT_EQ(a, shuffled_indices(1000, 1, 0));
  EXPECT_NE(a, shuffled_indices(1000, 1, 1));
  EXPECT_NE(a, shuffled_indices(1000, 2, 0));
  EXPECT_NE(a, shuffled_indices(1000, 1 + (int64_t{1} << 32), 0));
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
  TokenDataset dataset{torch::arange(100, torch::kInt64).to(torch::kUInt8).unsqueeze(1), torch::arange(100)};
  const auto [train, validation] = split_for_validation(dataset, 1);
  EXPECT_EQ(train.size(), 90);
  EXPECT_EQ(validation.size(), 10);
  const auto [sorted, order] = torch::cat({train.labels, validation.labels}).sort();
  EXPECT_TRUE(torch::equal(sorted, torch::arange(100)));
  EXPECT_TRUE(torch::equal(train.tokens.squeeze(1).to(torch::kInt64), train.labels));  // images keep their labels
  EXPECT_FALSE(torch::equal(split_for_validation(dataset, 2).second.labels, validation.labels));
}

TEST(FlatAdam, ClipsToTheCommonNorm) {
  auto a = torch::zeros({2}, torch::requires_grad()), b = torch::zeros({1}, torch::requires_grad());
  FlatAdam adam({a, b}, {});
  (3 * a.sum() + 4 * b.sum()).backward();  // gradients 3, 3, 4
  const auto norm = adam.clip_grad_norm(1.0);
  EXPECT_NEAR(norm.item<double>(), std::sqrt(34), 1e-6);
  EXPECT_NEAR(adam.gradients().norm().item<double>(), 1.0, 1e-5);
  EXPECT_NEAR(b.grad().item<double>() / a.grad()[0].item<double>(), 4.0 / 3, 1e-6);
  (a.sum()).backward();
  adam.clip_grad_norm(100);  // below: untouched
  EXPECT_NEAR(a.grad()[1].item<double>(), 1 + 3 / std::sqrt(34), 1e-5);
}

TEST(FlatAdam, EqualsPyTorchsAdam) {
  torch::manual_seed(2);
  const auto start = torch::randn({3, 4});
  auto ours = start.clone().requires_grad_(), theirs = start.clone().requires_grad_();
  FlatAdam adam({ours}, {});
  torch::optim::Adam reference({theirs}, torch::optim::AdamOptions(0.02));
  for (int step = 0; step < 20; ++step) {
    adam.zero_grad();
    reference.zero_grad();
    (ours - 1).pow(4).sum().backward();
    (theirs - 1).pow(4).sum().backward();
    adam.step(0.02);
    reference.step();
  }
  EXPECT_LT((ours - theirs).abs().max().item<double>(), 2e-6);
}

}  // namespace
}  // namespace igpt::training
