#include "igpt/training/scoring.h"
#include "igpt/backend/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/emulated_device.h"
#include "igpt/error.h"
#include "igpt/libtorch.h"

namespace igpt::training {
namespace {

using ::testing::ElementsAre;
using testing::EmulatedDevice;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using torch::Tensor;

// Of the generative model and of the classifier.
class DeviceScoring : public ::testing::TestWithParam<bool> {
 protected:
  struct Result {
    Score score;
    Tensor per_image;
  };

  DeviceScoring() {
    torch::manual_seed(3);
    model_ = ImageGPT(ImageGPTOptions{
        .embed_dim = 16, .num_heads = 2, .num_layers = 2, .num_pixels = 4, .num_vocab = 5, .num_classes = 3});
    images_ = {torch::randint(0, 5, {11, 16}, torch::kUInt8), torch::randint(0, 3, {11}, torch::kInt64)};
  }

  Result scored() {
    Result result;
    std::vector<Tensor> batches;
    ScoringOptions options;
    options.classify = GetParam();
    options.batch_size = 4;
    options.per_image = [&](const Tensor& batch) { batches.push_back(batch); };
    result.score = score(model_, images_, options);
    result.per_image = torch::cat(batches);
    return result;
  }

  void expect_equal(const Result& actual, const Result& expected, double limit = 1e-5) {
    EXPECT_EQ(actual.score.count, 11);
    EXPECT_NEAR(actual.score.loss, expected.score.loss, limit);
    EXPECT_EQ(actual.score.accuracy, expected.score.accuracy);
    EXPECT_EQ(actual.per_image.scalar_type(), expected.per_image.scalar_type());
    EXPECT_TRUE(torch::allclose(actual.per_image, expected.per_image, limit, limit));
  }

  ImageGPT model_{nullptr};
  TokenDataset images_;
};

TEST_P(DeviceScoring, EqualsThatOfTheCpuWithALastBatchThatIsSmaller) {
  const auto expected = scored();
  EmulatedDevice device;
  expect_equal(scored(), expected);
  EXPECT_EQ(device.evaluations, 1 + 3);
  expect_equal(scored(), expected);
}

TEST_P(DeviceScoring, ThatFailsNamesWhatWorks) {
  EmulatedDevice device;
  device.refuses_record = "no memory";
  EXPECT_THAT([&] { backend::report_device_errors([&] { scored(); }); },
              ::testing::ThrowsMessage<DeviceError>(HasSubstr("no memory; IGPT_KERNELS=libtorch")));
}

TEST_P(DeviceScoring, IsLibTorchsOfModelsThatDoNotFitTheDevice) {
  for (const int64_t embed_dim : {32, 16}) {
    model_ = ImageGPT(ImageGPTOptions{
        .embed_dim = embed_dim, .num_heads = 2, .num_layers = 1, .num_pixels = 4, .num_vocab = 5, .num_classes = 3});
    const auto expected = scored();
    EmulatedDevice device;
    device.shared_bytes = 64 * 1024;
    expect_equal(scored(), expected);
    EXPECT_EQ(device.evaluations, embed_dim == 32 ? 0 : 1 + 3);
  }
}

INSTANTIATE_TEST_SUITE_P(, DeviceScoring, ::testing::Bool());

}  // namespace
}  // namespace igpt::training
