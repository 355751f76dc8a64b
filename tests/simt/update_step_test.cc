#include "src/ops/cuda/update_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <ostream>

#include "igpt/ops/cpu/fused_step.h"
#include "muon_reference.h"
#include "simt/device_memory.h"
#include "simt/model_reference.h"
#ifdef IGPT_ON_GPU
#include "igpt/error.h"
#include "src/ops/cuda/graph.h"
#endif

namespace igpt::ops::cuda {
namespace {

using simt::Buffer;

struct Case {
  const char* name;
  bool classify = false;
  double generative_weight = 0;
  int64_t batches = 1;
  double largest_norm = 0;
  ModelShape shape = testing::raster_shape(4, 16, 2, 1, 6);
  bool muon = false;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

constexpr int64_t kData = 9, kUpdates = 3, kImages = 2;

/// A training of three updates, each array a buffer of its own.
struct Training {
  Case c;
  ModelShape shape = c.shape;
  size_t count = static_cast<size_t>(ParameterTable(shape).count);
  std::vector<float> weight_values = testing::drawn_weights(shape, 3);
  std::vector<uint8_t> token_values = testing::drawn_tokens(static_cast<size_t>(kData * shape.sequence_length), 6, 4);
  std::vector<int64_t> label_values, chosen;
  Buffer<uint8_t> tokens{"images", token_values};
  Buffer<float> weights{"weights", weight_values}, gradients{"gradients", count},
      exp_avg{"exp_avg", std::vector<float>(count)}, exp_avg_sq{"exp_avg_sq", std::vector<float>(count)},
      average{"average", weight_values}, step{"step", std::vector<float>(1)},
      rates{"rates", std::vector<float>{0.01f, 0.02f, 0.005f}},
      momenta{"momenta", std::vector<float>{0.85f, 0.9f, 0.95f}};
  Buffer<double> loss{"loss", 1}, loss_sum{"loss sum", std::vector<double>{5}};
  std::unique_ptr<Buffer<int64_t>> labels, plan, next;
  std::vector<std::shared_ptr<void>> own;
  std::unique_ptr<UpdateStep> update;

  explicit Training(const Case& of, bool gradients_only = false) : c(of) {
    for (int64_t i = 0; i < kData; ++i) label_values.push_back((i * 7 + 3) % shape.num_classes);
    for (int64_t i = 0; i < kUpdates * c.batches * kImages; ++i) chosen.push_back(i * 5 % kData);
    labels = std::make_unique<Buffer<int64_t>>("labels", label_values);
    plan = std::make_unique<Buffer<int64_t>>("plan", chosen);
    next = std::make_unique<Buffer<int64_t>>("next", std::vector<int64_t>{0, 0});
    Update u{shape};
    u.data = {kData, shape.sequence_length, tokens.data(), labels->data()};
    u.plan = {kUpdates, plan->data(), rates.data(), next->data()};
    if (c.muon) u.plan.momenta = momenta.data();
    u.images = kImages;
    u.batch_size = 2 * kImages;  // another process has the others
    u.batches = c.batches;
    u.classify = c.classify;
    u.generative_weight = c.generative_weight;
    u.gradients = gradients.data();
    u.loss = loss.data();
    u.loss_sum = loss_sum.data();
    u.adam.count = static_cast<int64_t>(count);
    u.adam.weights = weights.data();
    if (!gradients_only) u.adam.exp_avg = exp_avg.data();
    u.adam.exp_avg_sq = exp_avg_sq.data();
    u.adam.average = average.data();
    u.adam.step = step.data();
    u.adam.largest_norm = c.largest_norm;
    u.adam.average_decay = 0.9;
    update = std::make_unique<UpdateStep>(u, [this](const char* name, int64_t size, int64_t bytes) -> void* {
      if (bytes == 1) return keep<uint8_t>(name, size);
      if (bytes == 4) return keep<float>(name, size);
      return keep<double>(name, size);
    });
  }
  template <class T>
  void* keep(const char* name, int64_t size) {
    const auto buffer = std::make_shared<Buffer<T>>(name, static_cast<size_t>(size));
    own.push_back(buffer);
    return buffer->data();
  }
  void run() {
    ASSERT_STREQ(update->launch(nullptr), nullptr);
    simt::wait_for_device();
  }

  /// By the CPU's kernels: adds to the gradients, returns the loss.
  double on_cpu(cpu::FusedStep& fused, int64_t n, const std::vector<float>& at, std::vector<float>& to) const {
    double sum = 0;
    for (int64_t i = 0; i < c.batches; ++i) {
      std::vector<uint8_t> batch;
      std::vector<int64_t> batch_labels;
      for (int64_t b = 0; b < kImages; ++b) {
        const int64_t image = chosen[static_cast<size_t>((n * c.batches + i) * kImages + b)];
        batch.insert(batch.end(), token_values.begin() + image * shape.sequence_length,
                     token_values.begin() + (image + 1) * shape.sequence_length);
        batch_labels.push_back(label_values[static_cast<size_t>(image)]);
      }
      const double share = 0.5, scale = share / static_cast<double>(c.batches);
      if (c.classify) sum += share * fused.classifier(batch, batch_labels, at, static_cast<float>(scale), to);
      const double weight = c.classify ? c.generative_weight : 1;
      if (weight > 0)
        sum += share * weight * fused.generative(batch, at, static_cast<float>(weight * scale), to, batch_labels);
    }
    return sum;
  }
};

class CudaUpdateStep : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
    simt::set_order(1);
  }
};

TEST_P(CudaUpdateStep, HasTheGradientsOfTheCpuAndWhatTheOptimizerMakesOfThem) {
  Training training(GetParam());
  cpu::FusedStep fused(training.shape, /*threads=*/1);
  testing::Doubles m(training.count), v(training.count),
      average(training.weight_values.begin(), training.weight_values.end());
  std::vector<std::pair<Matrix, igpt::testing::MuonReference>> matrices;
  if (GetParam().muon)
    for (const Matrix& matrix : ParameterTable(training.shape).matrices)
      matrices.push_back({matrix,
                          {static_cast<size_t>(matrix.rows), static_cast<size_t>(matrix.columns),
                           testing::Doubles(static_cast<size_t>(matrix.count()))}});
  double loss_sum = 5;
  for (int64_t n = 0; n < kUpdates; ++n) {
    const std::vector<float> before = training.weights.values();
    std::vector<float> gradients(training.count);
    const double loss = training.on_cpu(fused, n, before, gradients);
    training.run();
    if (HasFatalFailure()) return;
    loss_sum += loss;
    EXPECT_NEAR(training.loss.values()[0], loss, 3e-6 * loss);
    EXPECT_NEAR(training.loss_sum.values()[0], loss_sum, 1e-5);
    const auto computed = training.gradients.values();
    EXPECT_LT(testing::relative_error(computed, {gradients.begin(), gradients.end()}), 4e-6);
    double squares = 0;
    for (const double g : computed) squares += g * g;
    const double most = training.c.largest_norm;
    const double clip = most > 0 ? std::min(1.0, most / (std::sqrt(squares) + 1e-6)) : 1.0;
    const double rate = training.rates.values()[static_cast<size_t>(n)], step = static_cast<double>(n) + 1;
    testing::Doubles expected(before.begin(), before.end());
    for (size_t i = 0; i < training.count; ++i) {
      const double g = clip * computed[i];
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      expected[i] -= rate * m[i] / (1 - std::pow(0.9, step)) / (std::sqrt(v[i] / (1 - std::pow(0.999, step))) + 1e-8);
    }
    for (auto& [matrix, muon] : matrices) {
      const auto at = [&](auto& values) { return values.begin() + matrix.offset; };
      std::vector<double> gradient(at(computed), at(computed) + matrix.count());
      for (double& g : gradient) g *= clip;
      muon.weights.assign(at(before), at(before) + matrix.count());
      muon.step(gradient, rate, training.momenta.values()[static_cast<size_t>(n)], /*weight_decay=*/0);
      std::copy(muon.weights.begin(), muon.weights.end(), at(expected));
    }
    for (size_t i = 0; i < training.count; ++i)
      average[i] += (1 - std::min(0.9, (1 + step) / (10 + step))) * (training.weights.values()[i] - average[i]);
    EXPECT_LT(testing::relative_error(training.weights.values(), expected), 1e-6);
    EXPECT_LT(testing::relative_error(training.average.values(), average), 1e-6);
    EXPECT_EQ(training.step.values()[0], step);
  }
}

const ModelShape kRaster = testing::raster_shape(4, 16, 2, 1, 6), kFinalNorm = testing::with_final_norm(kRaster),
                 kPaper = testing::paper_shape(4, 16, 2, 2, 6), kOfClasses = testing::of_classes(kRaster);

INSTANTIATE_TEST_SUITE_P(Cases, CudaUpdateStep,
                         ::testing::Values(Case{"Plain"}, Case{"AccumulatedAndClipped", false, 0, 2, 0.05},
                                           Case{"Classifier", true, 0, 1}, Case{"Both", true, 0.5, 2},
                                           Case{"FinalNorm", false, 0, 1, 0, kFinalNorm},
                                           Case{"BothWithFinalNorm", true, 0.5, 2, 0, kFinalNorm},
                                           Case{"BothOfThePapersModel", true, 0.5, 2, 0, kPaper},
                                           Case{"Muon", false, 0, 2, 0.05, kRaster, /*muon=*/true},
                                           Case{"OfClasses", false, 0, 2, 0, kOfClasses},
                                           Case{"MuonOfThePapersModel", true, 0, 2, 0.05, kPaper, /*muon=*/true}),
                         ::testing::PrintToStringParamName());

TEST(CudaUpdateStepOfARank, LeavesTheWeightsToWhatReducesTheGradients) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  Training training({"Plain"}, /*gradients_only=*/true);
  training.run();
  EXPECT_EQ(training.weights.values(), training.weight_values);
  EXPECT_EQ(training.step.values()[0], 0);
  EXPECT_EQ(training.gradients.unwritten(), 0u);
  EXPECT_EQ(training.next->values()[0], 1);
}

#ifdef IGPT_ON_GPU
TEST(CudaUpdateGraph, RepeatsWhatWasRecordedBitForBit) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  const Case c{"Both", true, 0.5, 2, 0.05, kRaster, /*muon=*/true};
  Training launched(c), recorded(c);
  cudaStream_t stream;
  simt::check(cudaStreamCreate(&stream));
  Graph graph;
  EXPECT_THROW(graph.record(stream, [](void*) { return "no kernel for it"; }), Error);
  EXPECT_THROW(graph.record(/*the default one*/ nullptr, [](void*) -> const char* { return nullptr; }), Error);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  launched.run();
  recorded.run();  // loads the kernels
  graph.record(stream, [&](void* on) { return recorded.update->launch(on); });
  EXPECT_EQ(recorded.weights.values(), launched.weights.values());  // nothing has run
  for (int64_t n = 1; n < kUpdates; ++n) {
    launched.run();
    graph.launch(stream);
    simt::wait_for_device();
    EXPECT_EQ(recorded.loss.values(), launched.loss.values());
    EXPECT_EQ(recorded.gradients.values(), launched.gradients.values());
    EXPECT_EQ(recorded.weights.values(), launched.weights.values());
    EXPECT_EQ(recorded.average.values(), launched.average.values());
  }
  simt::check(cudaStreamDestroy(stream));
}
#endif

}  // namespace
}  // namespace igpt::ops::cuda
