#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "architectures.h"
#include "device/emulated_device.h"
#include "igpt/backend/devices.h"
#include "igpt/error.h"
#include "igpt/libtorch.h"
#include "igpt/sampling/generate.h"

namespace igpt::sampling {
namespace {

using ::testing::ElementsAre;
using testing::EmulatedDevice;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using torch::Tensor;

struct Case {
  const char* name;
  int64_t images, given;
  ops::SamplingOptions options = {};
  const char* arch = kOriginalArch;
  std::optional<bool> final_norm = {};
};

class DeviceSampling : public ::testing::TestWithParam<Case> {
 protected:
  static ImageGPT model(const char* arch, std::optional<bool> final_norm = {}) {
    torch::manual_seed(5);
    ImageGPTOptions options{.embed_dim = 16, .num_heads = 2, .num_layers = 2, .num_pixels = 4, .num_vocab = 6};
    testing::set_architecture(options, arch);
    options.neighbours = 5;
    options.final_norm = final_norm;
    return ImageGPT(options);
  }

  Tensor generated(const Case& c) { return generated(c, model(c.arch, c.final_norm)); }
  Tensor generated(const Case& c, const ImageGPT& from, const DrawnCallback& drawn = {}) {
    std::vector<uint64_t> streams(static_cast<size_t>(c.images));
    std::iota(streams.begin(), streams.end(), (uint64_t{3} << 32) + 1);
    torch::manual_seed(11);
    const auto context = torch::randint(0, 6, {c.images, c.given}, torch::kUInt8);
    return generate(from, context, streams, c.options, drawn);
  }
};

TEST_P(DeviceSampling, DrawsTheImagesOfTheCpu) {
  const auto expected = generated(GetParam());
  EmulatedDevice device;
  EXPECT_TRUE(torch::equal(generated(GetParam()), expected));
  EXPECT_EQ(device.samplings, 1);  // all of them at once
}

INSTANTIATE_TEST_SUITE_P(
    Cases, DeviceSampling,
    ::testing::Values(Case{"FromNothing", 3, 0}, Case{"Completions", 4, 8}, Case{"LastPixel", 2, 15},
                      Case{"Many", 19, 10}, Case{"Greedy", 2, 0, {1, 1, 1, 0}},
                      Case{"Restricted", 3, 3, {0.7, 4, 0.9, 123456789012}}, Case{"Plane", 3, 0, {}, k2dArch},
                      Case{"FinalNorm", 3, 0, {}, kOriginalArch, true},
                      Case{"PlaneWithoutFinalNorm", 3, 0, {}, k2dArch, false}, Case{"Paper", 3, 0, {}, kPaperArch},
                      Case{"Convolved", 3, 5, {}, testing::kConvolved}),
    [](const auto& test) { return test.param.name; });

const Case kSome{"Some", 3, 4};

TEST_F(DeviceSampling, TellsOfEveryPixelOnce) {
  EmulatedDevice device;
  int64_t pixels = 0;
  const auto tokens = generated({"", 19, 4}, model(kOriginalArch), [&](const Drawn& drawn) {
    EXPECT_EQ(drawn.begin, 4);
    EXPECT_EQ(drawn.end, 16);
    EXPECT_GE(drawn.tokens.min().item<int64_t>(), 0);
    pixels += drawn.pixels();
  });
  EXPECT_EQ(pixels, 19 * 12);
}

TEST_F(DeviceSampling, WhatTheCallbackThrowsEndsIt) {
  EmulatedDevice device;
  EXPECT_THROW(generated(kSome, model(kOriginalArch), [](const Drawn&) { throw Interrupted(2); }), Interrupted);
}

TEST_F(DeviceSampling, NothingToDrawAsksForNothing) {
  EmulatedDevice device;
  EXPECT_EQ(generated({"", 3, 16}).size(1), 16);
  EXPECT_EQ(generated({"", 0, 0}).size(0), 0);
  EXPECT_EQ(device.samplings, 0);
}

TEST_F(DeviceSampling, IsLibTorchsOfModelsThatDoNotFitTheDevice) {
  for (const int64_t embed_dim : {32, 16}) {
    torch::manual_seed(5);
    const ImageGPT model(
        ImageGPTOptions{.embed_dim = embed_dim, .num_heads = 2, .num_layers = 1, .num_pixels = 4, .num_vocab = 6});
    const auto expected = generated(kSome, model);
    EmulatedDevice device;
    device.shared_bytes = 64 * 1024;
    EXPECT_TRUE(torch::equal(generated(kSome, model), expected));
    EXPECT_EQ(device.samplings, embed_dim == 32 ? 0 : 1);
  }
}

TEST_F(DeviceSampling, ThatFailsNamesWhatWorks) {
  EmulatedDevice device;
  device.refuses_sampling = "too many resources requested for launch";
  EXPECT_THAT(
      [&] { backend::report_device_errors([&] { generated(kSome); }); },
      ::testing::ThrowsMessage<DeviceError>(HasSubstr("too many resources requested for launch; IGPT_KERNELS=")));
}

TEST_F(DeviceSampling, LogitsThatAreNotFiniteAreTheErrorThatTheyAreOnTheCpu) {
  const auto damaged = model(kOriginalArch);
  {
    const torch::NoGradGuard no_gradients;
    damaged->head->weight.fill_(std::numeric_limits<float>::quiet_NaN());
  }
  const auto message = [&] {
    try {
      generated(kSome, damaged);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const auto expected = message();
  EXPECT_THAT(expected, HasSubstr("not finite"));
  EmulatedDevice device;
  EXPECT_EQ(message(), expected);
}

}  // namespace
}  // namespace igpt::sampling
