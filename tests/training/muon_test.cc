#include "igpt/training/muon.h"

#include <gtest/gtest.h>
#include <torch/optim.h>

#include "golden.h"
#include "igpt/model/flat_parameters.h"
#include "igpt/training/flat_optimizer.h"
#include "muon_reference.h"

namespace igpt::training {
namespace {

using testing::MuonReference;
using torch::Tensor;

MuonReference reference_of(const Tensor& weights) {
  const auto numbers = weights.to(torch::kFloat64).contiguous();
  const auto* first = numbers.const_data_ptr<double>();
  return {static_cast<size_t>(weights.size(0)), static_cast<size_t>(weights.size(1)), {first, first + numbers.numel()}};
}

void expect_weights(const Tensor& actual, const MuonReference& expected, double tolerance) {
  const auto numbers = torch::tensor(expected.weights, torch::kFloat64).view(actual.sizes());
  EXPECT_LT((actual - numbers).abs().max().item<double>(), tolerance) << actual.sizes();
}

OptimizerBuffers buffers_of(const Tensor& weights, const Tensor& gradients) {
  return {weights, gradients, torch::zeros_like(weights), torch::zeros_like(weights)};
}

class MuonKernels : public ::testing::TestWithParam<ops::Kernels> {};

TEST_P(MuonKernels, ThreeUpdatesOfMatricesOfAllShapesEqualTheReference) {
  torch::manual_seed(1);
  std::vector<ops::Matrix> matrices;
  int64_t count = 3;  // something lies between them
  for (const auto& [rows, columns] : std::vector<std::pair<int64_t, int64_t>>{
           {16, 16}, {64, 16}, {16, 64}, {16, 16}, {24, 24}, {96, 24}, {7, 5}, {1, 1}, {128, 512}, {132, 140}}) {
    matrices.push_back({count, rows, columns});
    count += rows * columns + 3;
  }
  const auto weights = torch::randn({count}), start = weights.clone(), gradients = torch::zeros({count});
  const auto matrix_of = [](const Tensor& flat, const ops::Matrix& m) {
    return flat.narrow(0, m.offset, m.count()).view({m.rows, m.columns});
  };
  std::vector<MuonReference> references;
  for (const auto& matrix : matrices) references.push_back(reference_of(matrix_of(weights, matrix)));
  Muon muon(buffers_of(weights, gradients), matrices, /*weight_decay=*/0.5, GetParam());
  for (int step = 0; step < 3; ++step) {
    gradients.normal_();
    muon.step(/*learning_rate=*/0.02, /*momentum=*/0.9);
    for (size_t i = 0; i < matrices.size(); ++i)
      references[i].step(matrix_of(gradients, matrices[i]).const_data_ptr<float>(), 0.02, 0.9, 0.5);
  }
  for (size_t i = 0; i < matrices.size(); ++i) {
    expect_weights(matrix_of(weights, matrices[i]), references[i], 2e-6);  // an update is 4e-3
    matrix_of(weights, matrices[i]).copy_(matrix_of(start, matrices[i]));
  }
  EXPECT_TRUE(torch::equal(weights, start)) << "what lies between the matrices changed";
}

TEST_P(MuonKernels, GradientsOfZerosChangeNothing) {
  const auto weights = torch::randn({16 * 64}), start = weights.clone(), gradients = torch::zeros({16 * 64});
  Muon(buffers_of(weights, gradients), {{0, 16, 64}}, /*weight_decay=*/0.5, GetParam()).step(0.02, 0.9);
  EXPECT_TRUE(torch::equal(weights, start));
}

// PyTorch iterates in bfloat16.
TEST_P(MuonKernels, UpdatesEqualPyTorchsButForItsRounding) {
  const testing::Golden golden("muon");
  const auto weights = golden.tensors("weights"), gradients = golden.tensors("gradients"),
             trained = golden.tensors("trained_weights");
  ASSERT_EQ(weights.size(), 3u);
  for (size_t i = 0; i < weights.size(); ++i) {
    const auto& [name, start] = weights[i];
    const auto ours = start.to(torch::kFloat32).flatten(), gradient = torch::zeros_like(ours);
    Muon muon(buffers_of(ours, gradient), {{0, start.size(0), start.size(1)}}, /*weight_decay=*/0, GetParam());
    for (const auto& of_step : gradients[i].second.unbind()) {
      gradient.copy_(of_step.flatten());
      muon.step(/*learning_rate=*/0.02, /*momentum=*/0.95);
    }
    const auto theirs = trained[i].second - start, error = ours.view(start.sizes()) - trained[i].second;
    EXPECT_LT((error.norm() / theirs.norm()).item<double>(), 0.02) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, MuonKernels, ::testing::Values(ops::Kernels::fused, ops::Kernels::libtorch),
                         [](const auto& test) { return test.param == ops::Kernels::fused ? "fused" : "libtorch"; });

TEST(FlatOptimizer, WithMuonUpdatesMatricesOfBlocksByItAndTheRestByAdam) {
  torch::manual_seed(2);
  ImageGPT model(ImageGPTOptions{
      .embed_dim = 8, .num_heads = 2, .num_layers = 2, .num_pixels = 4, .num_vocab = 5, .num_classes = 3});
  const torch::NoGradGuard no_grad;
  model->weights().normal_();
  const ops::ParameterTable table(model->shape());
  FlatOptimizer optimizer(model->weights(), table.parameters, {.weight_decay = 0.1}, table.matrices);
  const auto gradients = views_of(optimizer.gradients(), table.parameters);
  const auto is_matrix = [](const std::string& name) {
    return name.find("in_proj_weight") != std::string::npos || name.find("out_proj.weight") != std::string::npos ||
           (name.find(".mlp.") != std::string::npos && name.ends_with("weight"));
  };
  std::vector<Tensor> by_adam;                            // copies of the others
  std::vector<std::pair<Tensor, MuonReference>> by_muon;  // of the model, and its reference
  const auto parameters = model->named_parameters();
  for (const auto& entry : parameters) {
    if (!is_matrix(entry.key())) by_adam.push_back(entry.value().detach().clone());
    if (is_matrix(entry.key()))
      for (const auto& part : entry.value().detach().chunk(entry.key().ends_with("in_proj_weight") ? 3 : 1))
        by_muon.emplace_back(part, reference_of(part));
  }
  torch::optim::AdamW adam(by_adam, torch::optim::AdamWOptions(0.02).weight_decay(0.1));
  for (int step = 0; step < 3; ++step) {
    optimizer.zero_grad();
    optimizer.gradients().normal_();
    size_t adams = 0, muons = 0;
    for (size_t i = 0; i < gradients.size(); ++i) {
      const auto& name = table.parameters[i].name;
      if (!is_matrix(name)) by_adam[adams++].mutable_grad() = gradients[i].clone();
      if (is_matrix(name))
        for (const auto& part : gradients[i].chunk(name.ends_with("in_proj_weight") ? 3 : 1))
          by_muon[muons++].second.step(part.contiguous().const_data_ptr<float>(), 0.02, 0.9, 0.1);
    }
    adam.step();
    optimizer.step(/*learning_rate=*/0.02, /*momentum=*/0.9);
  }
  EXPECT_EQ(by_muon.size(), 12u);
  for (const auto& [part, reference] : by_muon) expect_weights(part, reference, 2e-6);
  size_t adams = 0;
  for (const auto& entry : parameters) {
    if (is_matrix(entry.key())) continue;
    EXPECT_LT((entry.value() - by_adam[adams++]).abs().max().item<double>(), 2e-6) << entry.key();
  }
}

}  // namespace
}  // namespace igpt::training
