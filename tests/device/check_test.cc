// `run check` on the emulated GPU: what it finds of kernels that are right, wrong, or fail.

#include "igpt/check/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "device/emulated_device.h"
#include "src/model/device_attention.h"

namespace igpt {
namespace {

using ops::cuda::Evaluation;
using ops::cuda::Update;
using testing::EmulatedDevice;

struct Found {
  CheckResult result;
  std::map<std::string, int> rows, failed;  // by work
  std::vector<std::string> failures;
};

Found checked() {
  Found found;
  const auto row = [&](const CheckRow& r) {
    ++found.rows[r.work];
    if (!r.passed()) ++found.failed[r.work];
    if (!r.failure.empty()) found.failures.push_back(r.failure);
  };
  found.result = check_kernels({.device = "cpu", .models = CheckOptions::Models::small}, row, {});
  return found;
}

TEST(Check, FindsRightKernelsRight) {
  EmulatedDevice device;
  device.tensor_cores = true;
  const auto found = checked();
  EXPECT_EQ(found.result.kernels, "the device's own kernels");
  EXPECT_EQ(found.result.failed, 0) << ::testing::PrintToString(found.failed);
  EXPECT_GE(found.result.rows, 16);  // in fp32 and in bf16
  for (const char* work : {"gradients", "gradients of a classifier", "gradients of both losses", "nats per image",
                           "class logits", "samples", "update", "update by Muon"})
    EXPECT_GE(found.rows.at(work), 2) << work;
}

struct Fault {
  const char* name;
  std::function<void(EmulatedDevice&)> make;
  const char* work;  // whose row must fail
};

class FaultyDevice : public ::testing::TestWithParam<Fault> {};

TEST_P(FaultyDevice, FailsTheCheck) {
  EmulatedDevice device;
  GetParam().make(device);
  const auto found = checked();
  EXPECT_GT(found.result.failed, 0);
  EXPECT_EQ(found.failed.count(GetParam().work), 1u) << ::testing::PrintToString(found.failed);
}

std::function<void(EmulatedDevice&)> spoiled(void (*spoil)(const Update&)) {
  return [spoil](EmulatedDevice& device) { device.spoil_update = spoil; };
}

INSTANTIATE_TEST_SUITE_P(
    Faults, FaultyDevice,
    ::testing::Values(
        Fault{"Gradient", spoiled([](const Update& u) { u.gradients[3] += 0.01f; }), "gradients"},
        Fault{"GradientNotANumber", spoiled([](const Update& u) { u.gradients[3] = NAN; }), "gradients"},
        Fault{"Loss", spoiled([](const Update& u) { *u.loss += 0.01; }), "gradients of a classifier"},
        Fault{"Weight",
              spoiled([](const Update& u) { simt::address(u.adam.weights)[3] += u.adam.exp_avg ? 0.001f : 0; }),
              "update"},
        Fault{"FirstMoment", spoiled([](const Update& u) {
                if (u.adam.exp_avg) simt::address(u.adam.exp_avg)[3] += 0.001f;
              }),
              "update"},
        Fault{"SecondMoment", spoiled([](const Update& u) {
                if (u.adam.exp_avg) simt::address(u.adam.exp_avg_sq)[3] += 1e-4f;
              }),
              "update"},
        Fault{"MomentumOfMuon", spoiled([](const Update& u) {
                const auto first = ops::ParameterTable(u.shape).matrices.front();
                if (u.plan.momenta) simt::address(u.adam.exp_avg)[first.offset] += 0.001f;
              }),
              "update by Muon"},
        Fault{"WeightOfMuon", spoiled([](const Update& u) {
                const auto last = ops::ParameterTable(u.shape).matrices.back();
                if (u.plan.momenta) simt::address(u.adam.weights)[last.offset] += 0.001f;
              }),
              "update by Muon"},
        Fault{"Count", spoiled([](const Update& u) {
                if (u.adam.step) *simt::address(u.adam.step) += 1;
              }),
              "update"},
        Fault{"SumOfLosses", spoiled([](const Update& u) {
                if (u.loss_sum) *u.loss_sum += 0.01;
              }),
              "update"},
        Fault{"Average", spoiled([](const Update& u) {
                if (u.adam.average) simt::address(u.adam.average)[3] += 0.001f;
              }),
              "update"},
        Fault{"Nats",
              [](EmulatedDevice& d) {
                d.spoil_evaluation = [](const Evaluation& e) {
                  if (e.nats) *e.nats *= 1.1;
                };
              },
              "nats per image"},
        Fault{"ClassLogits",
              [](EmulatedDevice& d) {
                d.spoil_evaluation = [](const Evaluation& e) {
                  if (e.class_logits) *e.class_logits += 0.1f;
                };
              },
              "class logits"},
        Fault{"Tokens", [](EmulatedDevice& d) { d.wrong_token = 1; }, "samples"},
        Fault{"Launch", [](EmulatedDevice& d) { d.refuses_launch = "out of memory\nat file.cc:1"; }, "update"},
        Fault{"Record", [](EmulatedDevice& d) { d.refuses_record = "not permitted when capturing"; }, "nats per image"},
        Fault{"Repetition", [](EmulatedDevice& d) { d.refuses_repeat = "invalid argument"; }, "update"},
        Fault{"Sampling", [](EmulatedDevice& d) { d.refuses_sampling = "too many resources"; }, "samples"}),
    [](const auto& test) { return test.param.name; });

// Otherwise an error of the device's attention would be on both sides of a comparison.
TEST(Check, TakesLibTorchsAttentionAsTheReference) {
  static int calls;
  calls = 0;
  DeviceAttention attention;
  attention.has_precision = [](const at::Tensor& q, ops::cuda::AttentionPrecision) {
    calls += q.size(2) == 16;  // of the model's forward pass
    return false;
  };
  use_device_attention(c10::kCPU, &attention);
  EmulatedDevice device;
  const auto found = checked();
  EXPECT_EQ(device_attention(c10::kCPU), &attention);
  use_device_attention(c10::kCPU, nullptr);
  EXPECT_EQ(found.result.failed, 0);
  EXPECT_EQ(calls, 0);
}

TEST(Check, TellsWhatAKernelThrewInOneLine) {
  EmulatedDevice device;
  device.refuses_launch = "out of memory\nat file.cc:1";
  const auto found = checked();
  ASSERT_FALSE(found.failures.empty());
  for (const auto& failure : found.failures) EXPECT_EQ(failure, "out of memory");
}

}  // namespace
}  // namespace igpt
