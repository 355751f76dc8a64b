// Whole trainings whose updates the CUDA kernels compute, emulated, beside those that the CPU's kernels compute.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>

#include "architectures.h"
#include "device/emulated_device.h"
#include "igpt/checkpoint/checkpoint.h"
#include "igpt/data/split.h"
#include "igpt/error.h"
#include "igpt/libtorch.h"
#include "igpt/model/flat_parameters.h"
#include "igpt/training/train_options.h"
#include "parallel/free_port.h"
#include "src/training/device_update.h"
#include "temporary_folder.h"
#include "tiny_training.h"

namespace igpt::training {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::EmulatedDevice;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::TemporaryFolder;
using torch::Tensor;

double relative_difference(const Tensor& a, const Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

class DeviceTraining : public ::testing::Test {
 protected:
  TrainOptions options(const std::string& name, int64_t steps) const {
    auto o = testing::tiny_training(folder_, data_, name, steps);
    o.model = {.embed_dim = 16, .num_heads = 2, .num_layers = 1, .num_pixels = 4, .num_vocab = 4, .num_classes = 2};
    o.batch_size = 4;
    return o;
  }

  // Trains, and what it noted about kernels.
  TrainResult trained(const TrainOptions& o) {
    notes_.clear();
    Hooks hooks;
    hooks.note = [&](const std::string& line) {
      if (line.find("kernels") != std::string::npos) notes_.push_back(line);
    };
    return train(o, hooks);
  }

  TemporaryFolder folder_;
  DataFiles data_ = testing::write_tiny_dataset(folder_ / "data", /*train_count=*/30);
  std::vector<std::string> notes_;
};

void expect_equal(const std::string& what, const std::vector<torch::Tensor>& actual,
                  const std::vector<torch::Tensor>& expected) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(torch::equal(actual[i], expected[i])) << what << " " << i;
}

void expect_equal(const std::string& actual, const std::string& expected) {
  const auto a = read_checkpoint(actual), e = read_checkpoint(expected);
  EXPECT_EQ(a.global_step, e.global_step);
  for (size_t i = 0; i < e.state_dict.size(); ++i)
    EXPECT_TRUE(torch::equal(a.state_dict[i].second, e.state_dict[i].second)) << e.state_dict[i].first;
  expect_equal("exp_avg", a.optimizer->exp_avg, e.optimizer->exp_avg);
  expect_equal("exp_avg_sq", a.optimizer->exp_avg_sq, e.optimizer->exp_avg_sq);
  expect_equal("momentum_buffer", a.optimizer->momentum_buffer, e.optimizer->momentum_buffer);
  expect_equal("weights", a.progress->weights, e.progress->weights);
  EXPECT_EQ(a.optimizer->momentum, e.optimizer->momentum);
  EXPECT_EQ(a.optimizer->step, e.optimizer->step);
  EXPECT_EQ(a.optimizer->learning_rate, e.optimizer->learning_rate);
  EXPECT_EQ(a.progress->train_loss_sum, e.progress->train_loss_sum);
  EXPECT_EQ(a.progress->best_score, e.progress->best_score);
}

struct Variant {
  const char* name;
  std::function<void(TrainOptions&)> change;
};

class DeviceTrainingOf : public DeviceTraining, public ::testing::WithParamInterface<Variant> {};

// Adam's first steps turn the rounding of a gradient that is zero into a step: such parameters are left out.
TEST_P(DeviceTrainingOf, EqualsThatOfTheCpu) {
  auto o = options("cpu", 5);
  o.val_interval = 3;
  GetParam().change(o);
  const auto cpu = trained(o);
  const auto expected = read_checkpoint(cpu.last_checkpoint);
  EmulatedDevice device;
  o.name = "device";
  const auto result = trained(o);
  EXPECT_THAT(notes_, IsEmpty());
  EXPECT_EQ(device.updates, 5);
  EXPECT_GT(device.evaluations, 0);
  const auto actual = read_checkpoint(result.last_checkpoint);
  for (size_t i = 0; i < expected.state_dict.size(); ++i) {
    const auto& [name, weight] = expected.state_dict[i];
    if (name.ends_with("in_proj_bias")) continue;
    EXPECT_TRUE(torch::allclose(actual.state_dict[i].second, weight, 1e-3, 2e-4)) << name;
    if (expected.progress->weights.empty()) continue;
    EXPECT_TRUE(torch::allclose(actual.progress->weights[i], expected.progress->weights[i], 1e-3, 2e-4)) << name;
  }
  EXPECT_EQ(actual.optimizer->step, 5);
  EXPECT_EQ(actual.optimizer->learning_rate, expected.optimizer->learning_rate);
  EXPECT_EQ(actual.optimizer->initial_learning_rate, expected.optimizer->initial_learning_rate);
  EXPECT_EQ(actual.optimizer->momentum, expected.optimizer->momentum);
  EXPECT_NEAR(actual.progress->train_loss_sum, expected.progress->train_loss_sum, 1e-4);
  EXPECT_NEAR(result.best_score, cpu.best_score, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(
    Variants, DeviceTrainingOf,
    ::testing::Values(Variant{"Plain", [](TrainOptions&) {}},
                      Variant{"WithoutAverage", [](TrainOptions& o) { o.ema = 0; }},
                      Variant{"Accumulated", [](TrainOptions& o) { o.accumulate = 3, o.batch_size = 2; }},
                      Variant{"ClippedWithDecay",
                              [](TrainOptions& o) {
                                o.grad_clip = 0.1, o.weight_decay = 0.1, o.muon_momentum = 0.9;
                                o.warmup_steps = 1;
                              }},
                      Variant{"Adam", [](TrainOptions& o) { o.optimizer = "adam"; }},
                      Variant{"AdamClippedWithDecay",
                              [](TrainOptions& o) {
                                o.optimizer = "adam", o.grad_clip = 0.1, o.weight_decay = 0.1, o.beta1 = 0.8;
                                o.beta2 = 0.95, o.warmup_steps = 2;
                              }},
                      Variant{"Augmented", [](TrainOptions& o) { o.augment = {.shift = 1, .flip = true}; }},
                      Variant{"Mirrored", [](TrainOptions& o) { o.augment = {.shift = 3, .padding = "reflect"}; }},
                      Variant{"Shifted", [](TrainOptions& o) { o.augment.shift = 2, o.accumulate = 2; }},
                      Variant{"Classifier", [](TrainOptions& o) { o.classify = true; }},
                      Variant{"ClassifierWithGenerativeShare",
                              [](TrainOptions& o) { o.classify = true, o.generative_weight = 0.7; }},
                      Variant{"Plane", [](TrainOptions& o) { o.model.arch = k2dArch, o.model.neighbours = 6; }},
                      Variant{"Convolved",
                              [](TrainOptions& o) {
                                testing::set_architecture(o.model, testing::kConvolved);
                                o.model.neighbours = 6;
                              }},
                      Variant{"FinalNorm", [](TrainOptions& o) { o.model.final_norm = true; }},
                      Variant{"ClassifierWithFinalNorm",
                              [](TrainOptions& o) {
                                o.model.final_norm = true;
                                o.classify = true, o.generative_weight = 0.7;
                              }},
                      Variant{"PlaneWithoutFinalNorm",
                              [](TrainOptions& o) {
                                o.model.arch = k2dArch, o.model.neighbours = 6;
                                o.model.final_norm = false;
                              }},
                      Variant{"Paper", [](TrainOptions& o) { o.model.arch = kPaperArch; }},
                      Variant{"ClassifierOfThePapersModel",
                              [](TrainOptions& o) {
                                o.model.arch = kPaperArch;
                                o.classify = true, o.generative_weight = 0.7;
                              }}),
    [](const auto& test) { return test.param.name; });

class DeviceTrainingWith : public DeviceTraining, public ::testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(Optimizers, DeviceTrainingWith, ::testing::Values("adam", "muon"),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(DeviceTrainingWith, ResumedEqualsUninterruptedBitForBit) {
  EmulatedDevice device;
  auto o = options("whole", 9);
  o.optimizer = GetParam();
  o.warmup_steps = 2;
  o.val_interval = 4;
  o.checkpoint_interval = 1;
  o.augment.shift = 1;
  const auto whole = trained(o);
  o.name = "parts";
  const auto last = (folder_ / "logs/parts/version_0/checkpoints/last.ckpt").string();
  int64_t patience = 5;
  Hooks hooks;
  hooks.stop_signal = [&] { return --patience == 0 ? SIGINT : 0; };
  EXPECT_THROW(train(o, hooks), Interrupted);
  o.resume = last;
  expect_equal(trained(o).last_checkpoint, whole.last_checkpoint);
}

TEST_F(DeviceTraining, GoesOnAfterThePlannedUpdates) {
  EmulatedDevice device;
  auto o = options("long", 130);
  o.batch_size = 1;
  o.val_interval = 130;
  const auto result = trained(o);
  EXPECT_EQ(device.updates, 130);
  EXPECT_LT(result.best_score, 1.35);  // ln 4 = 1.386 knows nothing
}

/// Rows of numbers; empty cells are -1.
std::vector<std::vector<double>> metrics_beside(const std::string& checkpoint) {
  std::ifstream file(std::filesystem::path(checkpoint).parent_path().parent_path() / "metrics.csv");
  std::vector<std::vector<double>> rows;
  std::string line, cell;
  for (std::getline(file, line); std::getline(file, line);) {
    rows.emplace_back();
    for (std::istringstream cells(line); std::getline(cells, cell, ',');)
      rows.back().push_back(cell.empty() ? -1 : std::stod(cell));
  }
  return rows;
}

// The loss is read while the device is busy with the next update.
TEST_F(DeviceTraining, WritesTheRowsOfTheCpusMetrics) {
  auto o = options("cpu", 110);
  o.batch_size = 2;
  o.learning_rate = 0.001;
  o.val_interval = 50;
  o.checkpoint_interval = 51;
  const auto expected = metrics_beside(trained(o).last_checkpoint);
  EmulatedDevice device;
  o.name = "device";
  const auto actual = metrics_beside(trained(o).last_checkpoint);
  EXPECT_EQ(expected.size(), 6u);  // of training and of validation at 50, 100 and 110
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i)
    EXPECT_THAT(actual[i], ::testing::Pointwise(::testing::DoubleNear(1e-3), expected[i])) << "row " << i;
}

TEST_F(DeviceTraining, ThatDivergesNamesTheRowsStepAndKeepsGoodCheckpoints) {
  EmulatedDevice device;
  auto o = options("absurd", 120);
  o.schedule = "constant";
  o.learning_rate = 1e38;
  o.val_interval = 120;
  EXPECT_THAT([&] { trained(o); }, ::testing::ThrowsMessage<Error>(HasSubstr("step 50: the loss is not finite")));
  o.checkpoint_interval = 1;
  EXPECT_THROW(trained(o), Error);
  for (const auto& entry : std::filesystem::directory_iterator(folder_ / "logs/absurd/version_1/checkpoints"))
    EXPECT_NO_THROW(read_checkpoint(entry.path())) << entry.path();
}

TEST_F(DeviceTraining, ComputesInTensorCoresAndInBf16) {
  auto o = options("cpu", 4);
  const double expected = trained(o).best_score;
  EmulatedDevice device;
  device.tensor_cores = true;
  o.name = "split";
  EXPECT_NEAR(trained(o).best_score, expected, 1e-3);
  EXPECT_EQ(device.precision, ops::cuda::AttentionPrecision::bf16x3);
  o.name = o.precision = "bf16";
  EXPECT_NEAR(trained(o).best_score, expected, 2e-2);
  EXPECT_EQ(device.precision, ops::cuda::AttentionPrecision::bf16);
  EXPECT_EQ(device.updates, 8);
  device.tensor_cores = false;
  trained(o);
  EXPECT_EQ(device.updates, 8);  // bf16 needs tensor cores
}

TEST_F(DeviceTraining, ThatFailsNamesWhatWorksAndHowToGoOn) {
  EmulatedDevice device;
  device.refuses_repeat = "unspecified launch failure";
  device.refuses_after = 3;
  auto o = options("device", 6);
  o.checkpoint_interval = 2;
  const std::string last = (folder_ / "logs/device/version_0/checkpoints/last.ckpt").string();
  EXPECT_THAT([&] { trained(o); },
              ::testing::ThrowsMessage<Error>(AllOf(HasSubstr("unspecified launch failure; IGPT_KERNELS=libtorch"),
                                                    HasSubstr("; to go on: run train --resume " + last))));
  EXPECT_EQ(device.updates, 4);
  device.refuses_repeat = "";
  o.resume = last;
  EXPECT_EQ(trained(o).last_step, 6);
}

TEST_F(DeviceTraining, ThatFailsAtTheFirstUpdateNamesWhatWorks) {
  for (auto refusal : {&EmulatedDevice::refuses_launch, &EmulatedDevice::refuses_record}) {
    EmulatedDevice device;
    device.*refusal = "invalid argument";
    EXPECT_THAT([&] { trained(options("device", 2)); },
                ::testing::ThrowsMessage<Error>(HasSubstr("invalid argument; IGPT_KERNELS=libtorch")));
  }
}

// Ranks reduce their gradients before anybody applies them: a device then computes those alone.
TEST_F(DeviceTraining, RanksSharesAddUpToTheWholeBatch) {
  EmulatedDevice device;
  auto o = options("ranks", 10);
  o.batch_size = 5;
  o.accumulate = 2;
  o.augment = {.shift = 1, .flip = true};
  auto split = data::read_split(o.data.train_x, o.data.train_y, {.num_vocab = 4, .num_pixels = 4});
  torch::manual_seed(1);
  ImageGPT model(o.model);
  FlatOptimizer optimizer(model->weights(), ops::ParameterTable(model->shape()).parameters, {});
  UpdateState state{make_token_dataset(split), &optimizer, /*ema=*/nullptr};
  state.loss = torch::zeros({}, torch::kFloat64);
  state.loss_sum = torch::zeros({}, torch::kFloat64);
  const auto weights = optimizer.weights().clone();
  auto gradients = torch::zeros_like(optimizer.gradients()), loss = torch::zeros({}, torch::kFloat64);
  constexpr int64_t kStep = 3;
  for (int rank = 0; rank < 2; ++rank) {
    o.launch.size = 2;
    o.launch.rank = rank;
    const auto backend = backend::make_backend(model, {.images = place_of_batch(o, 0, 0).size});
    const auto update = make_update(o, state, *backend);
    ASSERT_FALSE(update->loss_is_at_hand());  // it is the device's
    update->compute_gradients(kStep - 1);
    update->compute_gradients(kStep);
    gradients += optimizer.gradients();
    loss += state.loss;
  }
  EXPECT_TRUE(torch::equal(optimizer.weights(), weights));
  EXPECT_EQ(optimizer.updates().item<double>(), 0);
  o.launch = {};
  const auto cpu = backend::make_cpu_backend(model);
  HostUpdate(o, state, *cpu).compute_gradients(kStep);
  EXPECT_LT(relative_difference(gradients, optimizer.gradients()), 1e-5);
  EXPECT_LT(relative_difference(loss, state.loss), 1e-6);
}

// Ranks in threads, each with an emulated device of its own.
TEST_P(DeviceTrainingWith, RanksTrainToTheWeightsOfOneProcess) {
  auto o = options("start", 1);
  o.optimizer = GetParam();
  o.pretrained = trained(o).last_checkpoint;  // threads share the generator of initial weights
  o.steps = 5;
  o.val_interval = 3;
  o.batch_size = 5;
  o.accumulate = 2;
  o.grad_clip = 0.1;
  o.name = "one";
  const auto one = trained(o);
  EmulatedDevice device;
  o.name = "two";
  const int64_t port = testing::free_port();
  const auto rank = [&o, port](int64_t number) {
    auto own = o;
    own.launch = {.rank = number, .size = 2, .address = "127.0.0.1", .port = port, .one_machine = true, .timeout = 60};
    return train(own, {});
  };
  auto second = std::async(std::launch::async, rank, 1);
  const auto two = rank(0);
  second.get();
  EXPECT_EQ(device.updates, 2 * 5);
  EXPECT_NEAR(two.best_score, one.best_score, 1e-4);
  const auto actual = read_checkpoint(two.last_checkpoint), expected = read_checkpoint(one.last_checkpoint);
  EXPECT_EQ(actual.optimizer->step, 5);
  for (size_t i = 0; i < expected.state_dict.size(); ++i) {
    const auto& [name, weight] = expected.state_dict[i];
    if (name.ends_with("in_proj_bias")) continue;
    EXPECT_TRUE(torch::allclose(actual.state_dict[i].second, weight, 1e-3, 2e-4)) << name;
  }
}

TEST_F(DeviceTraining, IsOfModelsThatHaveKernels) {
  EmulatedDevice device;
  auto o = options("narrow", 2);
  o.model.embed_dim = 8;  // heads of 4
  trained(o);
  o.name = "wide";
  o.model.embed_dim = 66;
  trained(o);
  EXPECT_EQ(device.updates, 0);
  EXPECT_EQ(device.evaluations, 0);
  EXPECT_EQ(device.samplings, 0);
  EXPECT_THAT(notes_, IsEmpty());
}

// On sm_75, whose blocks have 64 KB, no matrix of the widest models fits: there the host applies what the device
// computes.
TEST_F(DeviceTraining, AppliesMuonWhereAMatrixFitsTheDevice) {
  auto o = options("cpu", 2);
  o.optimizer = "muon";
  o.model.embed_dim = 64;
  o.model.num_heads = 8;
  const auto expected = read_checkpoint(trained(o).last_checkpoint);
  for (const int kilobytes : {64, 99}) {
    EmulatedDevice device;
    device.shared_bytes = kilobytes * 1024;
    int64_t whole = 0;
    device.spoil_update = [&](const ops::cuda::Update& update) { whole += update.adam.exp_avg ? 1 : 0; };
    o.name = "device" + std::to_string(kilobytes);
    const auto actual = read_checkpoint(trained(o).last_checkpoint);
    EXPECT_EQ(device.updates, 2);
    EXPECT_EQ(whole, kilobytes == 64 ? 0 : 2);
    for (size_t i = 0; i < expected.state_dict.size(); ++i) {
      const auto& [name, weight] = expected.state_dict[i];
      if (name.ends_with("in_proj_bias")) continue;  // its part for the keys has no gradient but rounding
      EXPECT_TRUE(torch::allclose(actual.state_dict[i].second, weight, 1e-3, 2e-4)) << name;
    }
  }
}

// As on sm_75, whose blocks have 64 KB.
TEST_F(DeviceTraining, IsOfModelsWhoseKernelsFitTheDevice) {
  auto o = options("cpu", 2);
  o.model.embed_dim = 32;
  o.model.num_heads = 4;
  const auto expected = trained(o);
  {
    EmulatedDevice device;
    o.name = "fits";
    trained(o);
    EXPECT_EQ(device.updates, 2);
  }
  EmulatedDevice device;
  device.shared_bytes = 64 * 1024;
  o.name = "wide";
  expect_equal(trained(o).last_checkpoint, expected.last_checkpoint);
  EXPECT_EQ(device.updates + device.evaluations + device.samplings, 0);
  EXPECT_THAT(notes_, IsEmpty());
  o.name = "usual";
  o.model.embed_dim = 16;
  o.model.num_heads = 2;
  trained(o);
  EXPECT_EQ(device.updates, 2);
  EXPECT_GT(device.evaluations, 0);
  EXPECT_THAT(notes_, IsEmpty());
}

// The variable is read once in a process: hence another one.
TEST_F(DeviceTraining, IsLeftToLibTorchWhereThatIsAskedFor) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto work_of_device = [&] {
    setenv("IGPT_KERNELS", "reference", 1);
    const EmulatedDevice device;
    trained(options("reference", 2));
    std::filesystem::remove_all(folder_.path());
    std::exit(static_cast<int>(device.updates + device.evaluations + device.samplings));
  };
  EXPECT_EXIT(work_of_device(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace igpt::training
