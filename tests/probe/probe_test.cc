#include "igpt/probe/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "igpt/checkpoint/checkpoint.h"
#include "igpt/error.h"
#include "igpt/formats/input_file.h"
#include "igpt/formats/npy.h"
#include "src/probe/logistic_regression.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"

namespace igpt::probe {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;
using torch::Tensor;

TEST(LogisticRegression, FindsTheMinimum) {
  torch::manual_seed(1);
  const auto float64 = torch::TensorOptions(torch::kFloat64);
  const Tensor x = torch::randn({400, 6}, float64), truth = torch::randn({6, 4}, float64);
  const Tensor y = (x.mm(truth) + torch::randn({400, 4}, float64)).argmax(-1);
  for (const double penalty : {1e-1, 1e-3}) {
    LogisticRegression regression(x, y, 4);
    regression.fit(penalty);
    // At the minimum the gradient by the weights is zero: with the logits W x + b, those of the penalty and of the
    // mean cross-entropy cancel. W follows from the logits of unit vectors, b from those of zero.
    const Tensor bias = regression.logits(torch::zeros({1, 6}));
    const Tensor weights = (regression.logits(torch::eye(6, float64)) - bias).t();  // (C, D)
    const Tensor residual = regression.logits(x).softmax(-1) - torch::one_hot(y, 4);
    const Tensor gradient = residual.t().mm(x) / 400 + penalty * weights;
    EXPECT_LT(gradient.abs().max().item<float>(), 1e-5);
    EXPECT_LT(residual.mean(0).abs().max().item<float>(), 1e-5);
  }
}

// Without a penalty to speak of, logits are the same for all features that are linear combinations of each other, also
// where these differ by a thousandth only.
TEST(LogisticRegression, FindsTheMinimumWhereFeaturesAreNearlyDependent) {
  torch::manual_seed(1);
  const auto float64 = torch::TensorOptions(torch::kFloat64);
  Tensor x = torch::randn({400, 6}, float64);
  x -= x.mean(0);
  const Tensor y = (x.mm(torch::randn({6, 4}, float64)) + torch::randn({400, 4}, float64)).argmax(-1);
  Tensor mixing = torch::ones({6, 6}, float64) + 1e-3 * torch::randn({6, 6}, float64);
  mixing.select(1, 5).copy_(mixing.select(1, 0));  // and one is another's copy
  mixing = torch::cat({mixing, torch::randn({6, 1}, float64)}, 1);
  LogisticRegression plain(x, y, 4), mixed(x.mm(mixing), y, 4);
  plain.fit(1e-13);
  mixed.fit(1e-13);
  EXPECT_LT((plain.logits(x) - mixed.logits(x.mm(mixing))).abs().max().item<double>(), 1e-2);
}

TEST(Standardisation, MakesMeansZeroAndVariancesOne) {
  torch::manual_seed(1);
  Tensor x = torch::randn({100, 3}) * torch::tensor({1e-3, 1.0, 100.0}) + torch::tensor({5.0, 0.0, -7.0});
  x = torch::cat({x, torch::full({100, 1}, 3.3)}, 1);  // a feature that is always the same
  const Tensor standard = Standardisation(x).apply(x);
  EXPECT_LT(standard.mean(0).abs().max().item<float>(), 1e-3);
  EXPECT_LT((standard.narrow(1, 0, 3).var(0, /*unbiased=*/false) - 1).abs().max().item<float>(), 1e-2);
  EXPECT_EQ(standard.select(1, 3).abs().max().item<float>(), 0);
}

class Probe : public ::testing::Test {
 protected:
  Probe() {
    const auto data = testing::write_tiny_dataset(folder_ / "data");
    Checkpoint checkpoint;
    checkpoint.model = {
        .embed_dim = 8, .num_heads = 2, .num_layers = 2, .num_pixels = 4, .num_vocab = 4, .num_classes = 2};
    torch::manual_seed(4);
    checkpoint.state_dict = copy_state_dict(ImageGPT(checkpoint.model));
    write_checkpoint(folder_ / "model.ckpt", checkpoint);
    options_.checkpoint = folder_ / "model.ckpt";
    options_.data = data;
    options_.device = "cpu";
    options_.threads = 1;
  }

  ProbeResult run() {
    return run_probes(options_, [&](const ProbeRow& row) { printed_.push_back(row.layer); }, {});
  }

  TemporaryFolder folder_;
  ProbeOptions options_;
  std::vector<int64_t> printed_;
};

TEST_F(Probe, HasARowForEachLayerAndForTheHeads) {
  options_.csv = folder_ / "probe.csv";
  const auto result = run();
  EXPECT_EQ(printed_, (std::vector<int64_t>{0, 1, 2}));
  ASSERT_EQ(result.rows.size(), 3u);
  for (const auto& row : result.rows) {
    EXPECT_GT(row.test_accuracy, 0.6) << row.layer;  // of two classes that differ in their pixels
    EXPECT_GT(row.penalty, 0);
  }
  const std::string csv = formats::read_file(options_.csv, 1 << 16);
  EXPECT_TRUE(csv.starts_with("layer,test_acc,test_loss,val_acc,penalty\n0,")) << csv;
  EXPECT_EQ(std::ranges::count(csv, '\n'), 4);
}

TEST_F(Probe, OfOneLayerIsThatOfAll) {
  const auto all = run();
  printed_.clear();
  options_.layer = 1;
  const auto one = run();
  EXPECT_EQ(printed_, std::vector<int64_t>{1});
  ASSERT_EQ(one.rows.size(), 1u);
  EXPECT_EQ(one.rows[0].test_loss, all.rows[1].test_loss);
  EXPECT_EQ(one.rows[0].penalty, all.rows[1].penalty);
}

TEST_F(Probe, RefusesLabelsThatAreNoClassesBeforeTheWork) {
  formats::write_npy(options_.data.test_y, {20}, std::span<const int64_t>(std::vector(20, INT64_MAX)));
  try {
    run();
    ADD_FAILURE();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("test_y.npy: their labels go up to 9223372036854775807"));
  }
}

TEST_F(Probe, RefusesALayerThatIsNotThere) {
  options_.layer = 3;
  try {
    run();
    ADD_FAILURE();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("has the layers 0 to 2"));
  }
}

}  // namespace
}  // namespace igpt::probe
