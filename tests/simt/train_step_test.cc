#include "src/ops/cuda/train_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <ostream>
#include <span>

#include "igpt/ops/cpu/fused_step.h"
#include "simt/device_memory.h"
#include "simt/model_reference.h"
#include "src/ops/cuda/adam.h"

namespace igpt::ops::cuda {
namespace {

using simt::Buffer;

struct Case {
  const char* name;
  ModelShape shape;
  int images;
  AttentionPrecision precision = AttentionPrecision::fp32;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

/// A model's passes, each of their arrays a buffer of its own.
struct Step {
  Case c;
  std::vector<float> weight_values;
  std::vector<uint8_t> token_values;
  Buffer<float> weights, gradients;
  Buffer<uint8_t> tokens;
  Buffer<int64_t> labels;
  std::vector<std::unique_ptr<Buffer<float>>> floats;
  std::map<std::string, std::unique_ptr<Buffer<double>>> doubles;
  ModelPasses passes;

  explicit Step(const Case& of)
      : c(of),
        weight_values(testing::drawn_weights(c.shape, 3)),
        token_values(testing::drawn_tokens(static_cast<size_t>(c.images * c.shape.sequence_length),
                                           static_cast<int>(c.shape.num_vocab), 4)),
        weights("weights", weight_values),
        gradients("gradients", std::vector<float>(weight_values.size())),
        tokens("tokens", token_values),
        labels("labels", label_values()),
        passes(c.shape, c.images, c.precision,
               [this](const char* name, int64_t count, int64_t bytes) { return allocate(name, count, bytes); }) {}

  std::vector<int64_t> label_values() const { return testing::drawn_labels(c.images, c.shape.num_classes); }
  DeviceBatch batch() { return {tokens.data(), labels.data()}; }
  void* allocate(const char* name, int64_t count, int64_t element_bytes) {
    if (element_bytes == 8) {
      auto& buffer = doubles[name] = std::make_unique<Buffer<double>>(name, static_cast<size_t>(count));
      return buffer->data();
    }
    return floats.emplace_back(std::make_unique<Buffer<float>>(name, static_cast<size_t>(count)))->data();
  }
  void generative(double scale = 1) {
    ASSERT_STREQ(passes.generative(batch(), weights.data(), scale, gradients.data(), nullptr), nullptr);
    simt::wait_for_device();
  }
  double loss() { return doubles["loss"]->values()[0]; }
};

/// Error of each parameter's gradient by norm, the largest; of the exponents' precision.
double limit(const Case& c) {
  return c.precision == AttentionPrecision::fp32 ? 4e-6 : 3e-5;
}

void expect_gradients(Step& step, const testing::Doubles& expected) {
  const auto gradients = step.gradients.values();
  ASSERT_EQ(gradients.size(), expected.size());
  for (const Parameter& parameter : ParameterTable(step.c.shape).parameters) {
    const auto first = expected.begin() + parameter.offset;
    EXPECT_LT(
        testing::relative_error(gradients, {first, first + parameter.count()}, static_cast<size_t>(parameter.offset)),
        limit(step.c))
        << parameter.name;
  }
}

class CudaModelPasses : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
    if (GetParam().precision != AttentionPrecision::fp32 && !simt::limits().bf16_tensor_cores)
      GTEST_SKIP() << "no bf16 tensor cores";
    if (!model_supports(GetParam().shape, GetParam().images, simt::limits()))
      GTEST_SKIP() << "too little shared memory";
    simt::set_order(1);
  }
};

TEST_P(CudaModelPasses, HasTheLossAndTheGradientsOfDoublePrecision) {
  Step step(GetParam());
  step.generative();
  if (HasFatalFailure()) return;
  const testing::ModelReference expected(step.c.shape, step.weight_values, step.token_values, step.label_values());
  EXPECT_NEAR(step.loss(), expected.loss, limit(step.c) * expected.loss);
  expect_gradients(step, expected.gradients);
}

TEST_P(CudaModelPasses, IsTheSameBitsInAnotherOrder) {
  Step step(GetParam()), other(GetParam());
  step.generative();
  simt::set_order(2);
  other.generative();
  EXPECT_EQ(step.loss(), other.loss());
  EXPECT_EQ(step.gradients.values(), other.gradients.values());
}

std::vector<Case> cases() {
  using testing::conv_shape;
  using testing::of_classes;
  using testing::paper_shape;
  using testing::plane_shape;
  using testing::raster_shape;
  using testing::with_final_norm;
  return {{"Raster", raster_shape(5, 16, 2, 2, 16), 3},
          {"RasterWide", raster_shape(4, 64, 2, 1, 33), 2},
          {"RasterBf16x3", raster_shape(5, 16, 2, 2, 16), 2, AttentionPrecision::bf16x3},
          {"Plane", plane_shape(6, 16, 2, 2, 16), 2},
          {"PlaneOdd", plane_shape(5, 24, 3, 1, 10), 3},
          {"RasterFinalNorm", with_final_norm(raster_shape(5, 16, 2, 2, 16)), 3},
          {"RasterFinalNormOdd", with_final_norm(raster_shape(4, 24, 3, 1, 10)), 2},
          {"PlaneWithoutFinalNorm", with_final_norm(plane_shape(6, 16, 2, 2, 16), false), 2},
          {"Paper", paper_shape(5, 16, 2, 2, 16), 3},
          {"PaperBf16x3", paper_shape(5, 16, 2, 2, 16), 2, AttentionPrecision::bf16x3},
          {"PaperWide", paper_shape(4, 64, 2, 1, 33), 2},
          {"PaperOdd", paper_shape(4, 24, 3, 2, 10), 3},
          {"PaperWithoutFinalNorm", with_final_norm(paper_shape(5, 32, 2, 2, 16), false), 2},
          {"RasterOfClasses", of_classes(raster_shape(5, 16, 2, 1, 16)), 4},
          {"PlaneOfClasses", of_classes(plane_shape(4, 24, 3, 1, 10)), 4},
          {"Conv", conv_shape(6, 16, 2, 2, 16), 3},
          {"ConvOdd", conv_shape(5, 24, 3, 2, 10, 20), 3},
          {"ConvWide", conv_shape(4, 64, 2, 1, 33, 5, 60), 2},
          {"ConvOfClasses", of_classes(conv_shape(4, 32, 2, 1, 10, 5, 1)), 4},
          {"PaperOfClasses", of_classes(paper_shape(3, 16, 2, 1, 16)), 2}};
}
INSTANTIATE_TEST_SUITE_P(Cases, CudaModelPasses, ::testing::ValuesIn(cases()), ::testing::PrintToStringParamName());

class CudaModelPassesBesideTheCpu : public CudaModelPasses {};

TEST_P(CudaModelPassesBesideTheCpu, AddsTheSameGradientsTwice) {
  Step step(GetParam());
  cpu::FusedStep on_cpu(step.c.shape, /*threads=*/1);
  std::vector<float> gradients(step.weight_values.size());
  double loss = 0;
  for (const float scale : {1.0f, 0.5f}) {
    loss = on_cpu.generative(step.token_values, step.weight_values, scale, gradients, step.label_values());
    step.generative(scale);
  }
  EXPECT_NEAR(step.loss(), loss, 2e-6 * loss);
  expect_gradients(step, {gradients.begin(), gradients.end()});
}

TEST_P(CudaModelPassesBesideTheCpu, HasTheSameClassifierWithAndWithoutTheGenerativeLoss) {
  for (const double weight : {0.0, 0.3}) {
    Step step(GetParam());
    cpu::FusedStep on_cpu(step.c.shape, /*threads=*/1);
    std::vector<float> gradients(step.weight_values.size());
    const double loss = on_cpu.classifier(step.token_values, step.label_values(), step.weight_values, 0.5f, gradients,
                                          static_cast<float>(weight));
    ASSERT_STREQ(step.passes.classifier(step.batch(), step.weights.data(), 0.5, weight, step.gradients.data(), nullptr),
                 nullptr);
    simt::wait_for_device();
    EXPECT_NEAR(step.loss(), loss, 2e-6 * loss);
    expect_gradients(step, {gradients.begin(), gradients.end()});
  }
}

TEST_P(CudaModelPassesBesideTheCpu, HasTheSameClassLogits) {
  if (GetParam().shape.conditional) GTEST_SKIP() << "has no classifier";
  Step step(GetParam());
  cpu::FusedStep on_cpu(step.c.shape, /*threads=*/1);
  std::vector<float> logits(static_cast<size_t>(step.c.images * step.c.shape.num_classes));
  on_cpu.class_logits(step.token_values, step.weight_values, logits);
  Buffer<float> class_logits("class logits", logits.size());
  ASSERT_STREQ(step.passes.class_logits(step.batch(), step.weights.data(), class_logits.data(), nullptr), nullptr);
  simt::wait_for_device();
  EXPECT_LT(testing::relative_error(class_logits.values(), {logits.begin(), logits.end()}), 2e-6);
}

TEST_P(CudaModelPassesBesideTheCpu, EvaluatesTheSame) {
  Step step(GetParam());
  cpu::FusedStep on_cpu(step.c.shape, /*threads=*/1);
  std::vector<double> nats(static_cast<size_t>(step.c.images));
  std::vector<float> logits(step.token_values.size() * static_cast<size_t>(step.c.shape.num_vocab));
  on_cpu.nats(step.token_values, step.weight_values, nats, step.label_values());
  on_cpu.logits(step.token_values, step.weight_values, logits, step.label_values());
  Buffer<float> computed("logits", logits.size());
  Buffer<double> computed_nats("nats", nats.size());
  ASSERT_STREQ(step.passes.evaluate(step.batch(), step.weights.data(), computed_nats.data(), computed.data(), nullptr),
               nullptr);
  simt::wait_for_device();
  EXPECT_LT(testing::relative_error(computed_nats.values(), nats), 2e-6);
  EXPECT_LT(testing::relative_error(computed.values(), {logits.begin(), logits.end()}), 3e-6);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, CudaModelPassesBesideTheCpu,
    ::testing::Values(Case{"S25_D16", testing::raster_shape(5, 16, 2, 2, 16), 2},
                      Case{"S36_D32", testing::raster_shape(6, 32, 2, 1, 10), 2},
                      Case{"FinalNorm_S25_D16", testing::with_final_norm(testing::raster_shape(5, 16, 2, 2, 16)), 2},
                      Case{"PlaneWithoutFinalNorm_S16_D16",
                           testing::with_final_norm(testing::plane_shape(4, 16, 2, 1, 7, 12), false), 2},
                      Case{"Plane_S36_D16", testing::plane_shape(6, 16, 2, 2, 16, 12), 2},
                      Case{"Conv_S36_D16", testing::conv_shape(6, 16, 2, 2, 16, 12), 2},
                      Case{"Conv_S16_D24", testing::conv_shape(4, 24, 3, 2, 7, 60), 3},
                      Case{"Plane_S16_D24", testing::plane_shape(4, 24, 3, 1, 7, 60), 3},
                      Case{"Paper_S25_D16", testing::paper_shape(5, 16, 2, 2, 16), 2},
                      Case{"Paper_S16_D24", testing::paper_shape(4, 24, 3, 2, 7), 3},
                      Case{"PaperWithoutFinalNorm_S16_D32",
                           testing::with_final_norm(testing::paper_shape(4, 32, 2, 1, 7), false), 2},
                      Case{"OfClasses_S25_D16", testing::of_classes(testing::raster_shape(5, 16, 2, 1, 16)), 5}),
    ::testing::PrintToStringParamName());

#ifndef IGPT_ON_GPU
// No kernel asks for more than model_supports() knows of, and one for as much.
TEST(EmulatedModelPasses, RunsWithTheLeastSharedMemoryThatItIsSupportedWith) {
  for (const bool tensor_cores : {false, true})
    for (const ModelShape& shape : {testing::raster_shape(2, 16, 2, 1, 16), testing::raster_shape(2, 16, 1, 1, 255),
                                    testing::raster_shape(2, 32, 1, 1, 16), testing::raster_shape(2, 32, 4, 1, 200),
                                    testing::raster_shape(2, 24, 3, 1, 5), testing::plane_shape(2, 64, 2, 1, 255),
                                    testing::paper_shape(2, 32, 1, 1, 16)}) {
      const auto supported = [&](int bytes) { return model_supports(shape, 1, {bytes, tensor_cores}); };
      int least = 0;
      for (int step = 1 << 17; step > 0; step /= 2) least += supported(least + step - 1) ? 0 : step;
      ASSERT_TRUE(supported(least) && !supported(least - 1));
      SCOPED_TRACE(::testing::Message() << "D " << shape.embed_dim << ", V " << shape.num_vocab << ": " << least
                                        << " bytes");
      Step step({"", shape, 1, tensor_cores ? AttentionPrecision::bf16x3 : AttentionPrecision::fp32});
      const auto cause = [&](int bytes) {
        simt::device().shared_bytes = bytes;
        return step.passes.generative(step.batch(), step.weights.data(), 1, step.gradients.data(), nullptr);
      };
      EXPECT_STREQ(cause(least), nullptr);
      EXPECT_NE(cause(least - 1), nullptr);
      simt::device() = {};
    }
}
#endif

TEST(CudaTraining, LowersTheLoss) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  Step step({"", testing::plane_shape(4, 16, 2, 1, 4), 4});
  const size_t count = step.weight_values.size();
  const std::vector<float> zeros(count);
  Buffer<float> exp_avg("exp_avg", zeros), exp_avg_sq("exp_avg_sq", zeros), rate("rate", std::vector<float>(1, 0.01f)),
      updates("step", std::vector<float>(1)), norm("norm", 1);
  Buffer<double> scratch("scratch", kAdamScratch);
  std::vector<double> losses;
  for (int i = 0; i < 10; ++i) {
    Buffer<float> gradients("gradients", zeros);
    ASSERT_STREQ(step.passes.generative(step.batch(), step.weights.data(), 1, gradients.data(), nullptr), nullptr);
    AdamUpdate update{static_cast<int64_t>(count),
                      step.weights.data(),
                      exp_avg.data(),
                      exp_avg_sq.data(),
                      gradients.data(),
                      nullptr,
                      rate.data(),
                      updates.data(),
                      norm.data(),
                      scratch.data()};
    update.largest_norm = 1;
    ASSERT_STREQ(adam_update(update), nullptr);
    simt::wait_for_device();
    losses.push_back(step.loss());
  }
  EXPECT_LT(losses.back(), 0.7 * losses.front());
}

}  // namespace
}  // namespace igpt::ops::cuda
