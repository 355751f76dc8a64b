#include "src/ops/cuda/model_sizes.h"

#include <gtest/gtest.h>

#include "simt/device_memory.h"
#include "simt/model_reference.h"
#include "src/ops/cuda/head.h"
#include "src/ops/cuda/ordered_sums.h"

namespace igpt::ops::cuda {
namespace {

using testing::paper_shape;
using testing::plane_shape;
using testing::raster_shape;

TEST(CudaModelSizes, IsSupportedWhereEachKernelFitsTheDevicesSharedMemory) {
  const simt::Limits turing{64 * 1024, false}, ada{99 * 1024, true}, hopper{227 * 1024, true};  // sm_75, 89 and 90
  const auto model = [](int embed, int vocab) { return raster_shape(28, embed, embed / 8, 8, vocab); };
  for (const auto& device : {turing, ada, hopper}) {
    EXPECT_TRUE(model_supports(model(16, 16), 64, device));
    EXPECT_TRUE(model_supports(model(16, 192), 64, device));
    EXPECT_TRUE(model_supports(model(64, 255), 64, device));
    EXPECT_TRUE(model_supports(plane_shape(28, 16, 2, 8, 16), 64, device));
    EXPECT_TRUE(model_supports(paper_shape(28, 16, 2, 8, 16), 64, device));
    EXPECT_FALSE(model_supports(paper_shape(32, 512, 8, 24, 512), 64, device));  // iGPT-S
    EXPECT_FALSE(model_supports(model(16, 256), 64, device));                    // has no kernels
  }
  for (const auto& shape : {model(32, 16), model(16, 193)}) {
    EXPECT_FALSE(model_supports(shape, 64, turing));
    EXPECT_TRUE(model_supports(shape, 64, ada));
    EXPECT_TRUE(model_supports(shape, 64, hopper));
  }
  EXPECT_TRUE(model_supports(model(32, 255), 64, ada));
  EXPECT_FALSE(model_supports(model(16, 16), 64, {64 * 1024, true}));  // attention on tensor cores takes more
}

TEST(CudaModelSizes, MuonIsSupportedWhereAMatrixFitsTheDevicesSharedMemory) {
  const simt::Limits turing{64 * 1024, false}, ada{99 * 1024, true};
  for (const int embed : {8, 16, 24, 32, 40, 48, 56, 64}) {
    EXPECT_EQ(muon_supports(raster_shape(28, embed, embed / 8, 8, 16), turing), embed < 56) << embed;
    EXPECT_TRUE(muon_supports(raster_shape(28, embed, embed / 8, 8, 16), ada)) << embed;
  }
}

#ifdef IGPT_ON_GPU
/// What CUDA would tell whoever asks next, LibTorch for one.
void expect_no_error_left() {
  EXPECT_STREQ(cudaGetErrorName(cudaPeekAtLastError()), "cudaSuccess");
}
#else
void expect_no_error_left() {}
#endif

/// Of a head that wants 94 KB of shared memory for a block, or little.
const char* logits_of(simt::Buffer<float>& weight, simt::Buffer<float>& x, simt::Buffer<float>& logits, int outputs) {
  Head head{{1, 1, 32, outputs}, nullptr, weight.data(), x.data(), nullptr};
  head.logits = logits.data();
  return cuda::head(head);
}

TEST(CudaLaunch, ThatIsRefusedLeavesNothingBehind) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  simt::Buffer<float> weight("weight", std::vector<float>(256 * 32, 0.5f)), x("x", std::vector<float>(32, 1)),
      logits("logits", 256);
  // Of too many blocks; by CUDA, where the kernel is launched.
  simt::Buffer<double> sums("sums", 1);
  EXPECT_NE(totals(x.data(), int64_t{1} << 31, 1, 1, sums.data()), nullptr);
  expect_no_error_left();
#ifndef IGPT_ON_GPU
  simt::device().shared_bytes = 64 * 1024;
#endif
  // Of blocks that are too large for the device, where the kernel is allowed as much.
  if (head_shared_bytes({1, 1, 32, 256}) > simt::limits().shared_bytes) {
    EXPECT_NE(logits_of(weight, x, logits, 256), nullptr);
    expect_no_error_left();
  }
  EXPECT_STREQ(logits_of(weight, x, logits, 16), nullptr);
  expect_no_error_left();
  simt::wait_for_device();
  const auto& computed = logits.values();
  for (size_t v = 0; v < 16; ++v) EXPECT_EQ(computed[v], 16.0f);
#ifndef IGPT_ON_GPU
  simt::device() = {};
#endif
}

}  // namespace
}  // namespace igpt::ops::cuda
