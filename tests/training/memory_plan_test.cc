#include "src/training/memory_plan.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "igpt/model/autocast.h"
#include "igpt/model/image_gpt.h"
#include "igpt/ops/kernel_choice.h"
#include "igpt/training/flat_optimizer.h"
#include "igpt/training/plan.h"
#include "src/training/validation.h"
#include "temporary_folder.h"
#include "tiny_dataset.h"
#include "tiny_training.h"

namespace igpt::training {
namespace {

using ::testing::HasSubstr;

// The most bytes of tensors on the CPU that this thread had at once since this object was made.
class PeakMemory {
 public:
  PeakMemory() : guard_(c10::DebugInfoKind::PROFILER_STATE, report_) {}

  int64_t bytes() const { return report_->most; }

 private:
  struct Report : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
      now += size;
      most = std::max(most, now);
    }
    bool memoryProfilingEnabled() const override { return true; }
    int64_t now = 0, most = 0;
  };

  std::shared_ptr<Report> report_ = std::make_shared<Report>();
  c10::DebugInfoGuard guard_;
};

struct Case {
  const char* name;
  int64_t embed_dim, num_vocab;
  const char* precision;
  bool checkpointing;
  bool final_norm = false;
};

class PlannedMemory : public ::testing::TestWithParam<Case> {};

TEST_P(PlannedMemory, IsWhatAStepTakes) {
  const auto& c = GetParam();
  TrainOptions options;
  options.model = {.embed_dim = c.embed_dim,
                   .num_heads = c.embed_dim / 64,
                   .num_layers = 6,
                   .num_pixels = 16,
                   .num_vocab = c.num_vocab,
                   .final_norm = c.final_norm,
                   .palette = {}};
  options.precision = c.precision;
  ImageGPT model(options.model);
  model->set_activation_checkpointing(c.checkpointing);
  const auto x = torch::randint(c.num_vocab, {4, 256}, torch::kUInt8);
  const auto loss = [&] {
    const Bf16Autocast autocast(torch::kCPU, options.precision == "bf16");
    return generative_loss(model->forward(x).to(torch::kFloat32), x);
  };
  const auto step = [&] { loss().backward(); };
  step();  // the gradients are there
  const PeakMemory peak;
  step();
  const auto plan = plan_memory(options, x.size(0), /*data=*/0);
  const auto planned = static_cast<double>(c.checkpointing ? plan.checkpointed : plan.activations);
  const double ratio = planned / static_cast<double>(peak.bytes());
  EXPECT_GT(ratio, 0.9);
  EXPECT_LT(ratio, 1.25);
}

INSTANTIATE_TEST_SUITE_P(
    All, PlannedMemory,
    ::testing::Values(Case{"fp32", 128, 16, "fp32", false}, Case{"fp32_checkpointing", 128, 16, "fp32", true},
                      Case{"bf16", 128, 16, "bf16", false}, Case{"bf16_checkpointing", 128, 16, "bf16", true},
                      Case{"final_norm", 128, 16, "fp32", false, true},
                      Case{"final_norm_checkpointing", 128, 16, "fp32", true, true},
                      Case{"many_colours", 64, 256, "fp32", false}, Case{"many_colours_bf16", 64, 256, "bf16", true}),
    [](const auto& test) { return test.param.name; });

TEST(PlannedState, IsWhatEachOptimizerTakes) {
  for (const char* name : {"adam", "muon"}) {
    TrainOptions options;
    options.model = {.embed_dim = 64, .num_heads = 2, .num_layers = 4, .num_pixels = 16, .palette = {}};
    options.optimizer = name;
    options.ema = 0;
    const ops::ParameterTable table(shape_of(options.model));
    const auto matrices = options.optimizer == "muon" ? table.matrices : std::vector<ops::Matrix>();
    const PeakMemory peak;
    FlatOptimizer optimizer(torch::zeros({table.count}), table.parameters, {}, matrices);
    optimizer.step(0.01, 0.9);
    const auto planned = static_cast<double>(plan_memory(options, /*images=*/1, /*data=*/0).state);
    EXPECT_GT(planned / static_cast<double>(peak.bytes()), 0.95) << name;
    EXPECT_LT(planned / static_cast<double>(peak.bytes()), 1.05) << name;
  }
}

struct Trained {
  const char *name, *optimizer;
  double weight_decay, ema;
};

class PlannedTraining : public ::testing::TestWithParam<Trained> {};

// Batches of so few pixels that the rest needs more memory than they do.
TEST_P(PlannedTraining, IsWhatItTakes) {
  const auto& c = GetParam();
  const testing::TemporaryFolder folder;
  auto o = testing::tiny_training(folder, testing::write_tiny_dataset(folder / "data"), c.name, /*steps=*/2);
  o.model = {.embed_dim = 256, .num_heads = 4, .num_layers = 4, .num_pixels = 4, .num_vocab = 4, .palette = {}};
  o.batch_size = 1;
  o.val_interval = 2;
  o.optimizer = c.optimizer;
  o.weight_decay = c.weight_decay;
  o.ema = c.ema;
  const auto planned = static_cast<double>(plan_training(o, {}).memory);
  const PeakMemory peak;
  train(o, {});
  const double ratio = planned / static_cast<double>(peak.bytes());
  EXPECT_GT(ratio, 0.95);
  EXPECT_LT(ratio, 1.1);
}

INSTANTIATE_TEST_SUITE_P(All, PlannedTraining,
                         ::testing::Values(Trained{"adam", "adam", 0, 0}, Trained{"muon", "muon", 0, 0},
                                           Trained{"decay", "muon", 0.1, 0}, Trained{"average", "muon", 0.1, 0.9}),
                         [](const auto& test) { return test.param.name; });

// A step of Muon alone: in a training, writing checkpoints needs more.
TEST(PlannedUpdate, IsWhatMuonTakes) {
  for (const double weight_decay : {0.0, 0.1}) {
    const ImageGPTOptions model{.embed_dim = 256, .num_heads = 4, .num_layers = 4, .num_pixels = 4, .palette = {}};
    const ops::ParameterTable table(shape_of(model));
    FlatOptimizer optimizer(torch::zeros({table.count}), table.parameters, {.weight_decay = weight_decay},
                            table.matrices);
    const PeakMemory peak;
    optimizer.step(0.01, 0.9);
    const auto planned = static_cast<double>(Muon::bytes_of_step(table.matrices, weight_decay));
    EXPECT_GT(planned / static_cast<double>(peak.bytes()), 0.95) << weight_decay;
    EXPECT_LT(planned / static_cast<double>(peak.bytes()), 1.05) << weight_decay;
  }
}

class ActivationCheckpointing : public ::testing::Test {
 protected:
  bool choose(const char* wanted, int64_t available) {
    TrainOptions options;
    options.activation_checkpointing = wanted;
    note.clear();
    detail.clear();
    Hooks hooks;
    hooks.note = [this](const std::string& line) { note = line; };
    hooks.detail = [this](const std::string& line) { detail = line; };
    return choose_activation_checkpointing(options, plan, available, hooks);
  }

  MemoryPlan plan{.state = 100 << 20, .data = 50 << 20, .activations = 500 << 20, .checkpointed = 60 << 20};
  std::string note, detail;
};

TEST_F(ActivationCheckpointing, IsChosenWhereMemoryNeedsIt) {
  EXPECT_FALSE(choose("auto", 1000 << 20));
  EXPECT_EQ(
      detail,
      "memory: about 650 MiB (weights and optimizer 100 MiB, data 50 MiB, activations 500 MiB) of 1000 MiB that are "
      "free");
  EXPECT_EQ(note, "");
  EXPECT_TRUE(choose("auto", 700 << 20));
  EXPECT_THAT(detail, HasSubstr("activations 60 MiB with activation checkpointing, without it 500 MiB"));
  EXPECT_FALSE(choose("auto", 0)) << "nothing is known";
}

TEST_F(ActivationCheckpointing, IsWhatTheUserSays) {
  EXPECT_TRUE(choose("on", 1000 << 20));
  EXPECT_FALSE(choose("off", 300 << 20));
  EXPECT_THAT(note, HasSubstr("it may not be enough: lower --batch_size"));
}

TEST_F(ActivationCheckpointing, IsNotChosenForTheSamplesOfValidations) {
  plan.drawing = 800 << 20;
  EXPECT_FALSE(choose("auto", 900 << 20));
  EXPECT_THAT(note, HasSubstr("memory: about 950 MiB"));
  EXPECT_THAT(note, HasSubstr("activations 500 MiB; in validations 800 MiB to draw samples)"));
  EXPECT_THAT(note, HasSubstr("it may not be enough to draw samples: lower --sample_grid"));
}

TEST(PlannedDrawing, CountsTheKeysAndValuesOfAllImages) {
  TrainOptions options;
  options.model = {.embed_dim = 128, .num_heads = 2, .num_layers = 3, .num_pixels = 16, .palette = {}};
  options.sample_grid = 2;
  const ImageGPT model(options.model);
  const int64_t cache = 2 * 3 * 16 * 16 * 128 * 4, weights = 4 * ops::ParameterTable(model->shape()).count;
  EXPECT_EQ(model->cache_bytes(), cache);
  EXPECT_EQ(bytes_of_sample_grid(model, options), weights + 4 * cache);
  options.classify = true;
  EXPECT_EQ(bytes_of_sample_grid(model, options), 0);
}

TEST_F(ActivationCheckpointing, TheLargestWorkBetweenBatchesIsTold) {
  plan.updating = 900 << 20;
  plan.drawing = 800 << 20;
  choose("auto", 900 << 20);
  EXPECT_THAT(note, HasSubstr("activations 500 MiB; for an update by Muon 900 MiB)"));
  EXPECT_THAT(note, HasSubstr("it may not be enough for Muon: choose a smaller model, or --optimizer adam"));
  plan.saving = 950 << 20;
  choose("auto", 900 << 20);
  EXPECT_THAT(note, HasSubstr("activations 500 MiB; for a checkpoint 950 MiB)"));
  EXPECT_THAT(note, HasSubstr("it may not be enough to save checkpoints: choose a smaller model"));
}

TEST_F(ActivationCheckpointing, LargePlansAreTold) {
  plan.state = int64_t{3} << 30;
  choose("auto", 0);
  EXPECT_THAT(note, HasSubstr("memory: about 3.5 GiB"));
}

}  // namespace
}  // namespace igpt::training
