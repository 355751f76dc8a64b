// What stands between the model and the CUDA kernels, on the CPU: the kernels' place is taken by plain loops, right
// ones and wrong ones.

#include "src/model/device_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden.h"
#include "igpt/error.h"
#include "igpt/libtorch.h"
#include "igpt/model/causal_attention.h"
#include "simt/attention_reference.h"
#include "src/backend/cuda/attention_tensors.h"

namespace igpt {
namespace {

using ops::cuda::AttentionPrecision;
using ::testing::HasSubstr;
using testing::relative_error;

/// How the kernels behave, and what was asked of them.
struct Behaviour {
  const char* refusal = nullptr;  // CUDA's words
  const char* refusal_backward = nullptr;
  bool tensor_cores = true;
  int forwards = 0, backwards = 0;
  AttentionPrecision precision{};
  const float* q = nullptr;
};
Behaviour behaviour;

template <class T>
std::vector<float> rows(const ops::cuda::Heads<T>& heads, const ops::cuda::AttentionSizes& sizes, int64_t b,
                        int64_t h) {
  std::vector<float> values;
  for (int64_t s = 0; s < sizes.length; ++s) {
    const float* row =
        simt::address(heads.data) + b * heads.batch_stride + h * heads.head_stride + s * heads.row_stride;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(row) % 16, 0);
    values.insert(values.end(), row, row + sizes.head_dim);
  }
  return values;
}

void store(const ops::cuda::Heads<float>& heads, const ops::cuda::AttentionSizes& sizes, int64_t b, int64_t h,
           const std::vector<double>& values) {
  for (int64_t s = 0; s < sizes.length; ++s)
    for (int64_t d = 0; d < sizes.head_dim; ++d)
      simt::address(heads.data)[b * heads.batch_stride + h * heads.head_stride + s * heads.row_stride + d] =
          static_cast<float>(values[static_cast<size_t>(s * sizes.head_dim + d)]);
}

class DeviceAttentionOnCpu : public ::testing::Test {
 protected:
  void SetUp() override {
    behaviour = {};
    torch::manual_seed(1);
  }

  static at::Tensor drawn(at::IntArrayRef sizes) { return torch::randn(sizes).requires_grad_(); }

  const DeviceAttention kernels{
      [](const at::Tensor&, AttentionPrecision precision) {
        return behaviour.tensor_cores || precision == AttentionPrecision::fp32;
      },
      [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale, AttentionPrecision precision) {
        return backend::cuda::attend(q, k, v, scale, precision, nullptr);
      },
      [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const DeviceAttention::Output& computed,
         const at::Tensor& d_out, double scale, AttentionPrecision precision) {
        return backend::cuda::attend_backward(q, k, v, computed, d_out, scale, precision, nullptr);
      }};
  std::optional<at::Tensor> attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
    return attend_on_device(kernels, q, k, v, scale);
  }
};

}  // namespace

// In place of src/ops/cuda/attention.cu.
namespace ops::cuda {

const char* attention_forward(const AttentionForward& a, AttentionPrecision precision, const AttentionLaunch&) {
  ++behaviour.forwards;
  behaviour.precision = precision;
  behaviour.q = simt::address(a.q.data);
  if (behaviour.refusal) return behaviour.refusal;
  const AttentionSizes& sizes = a.sizes;
  for (int64_t b = 0; b < sizes.batch; ++b)
    for (int64_t h = 0; h < sizes.heads; ++h) {
      const auto q = rows(a.q, sizes, b, h), k = rows(a.k, sizes, b, h), v = rows(a.v, sizes, b, h);
      const testing::HeadReference head(q, k, v, /*d_out=*/q, sizes.length, sizes.head_dim, sizes.scale);
      store(a.out, sizes, b, h, head.out.values);
      for (int64_t s = 0; s < sizes.length; ++s)
        simt::address(a.log_sum_exp)[(b * sizes.heads + h) * sizes.length + s] =
            static_cast<float>(head.log_sum_exp[static_cast<size_t>(s)]);
    }
  return nullptr;
}

const char* attention_backward(const AttentionBackward& a, AttentionPrecision, const AttentionLaunch&) {
  ++behaviour.backwards;
  if (behaviour.refusal_backward) return behaviour.refusal_backward;
  const AttentionSizes& sizes = a.sizes;
  for (int64_t b = 0; b < sizes.batch; ++b)
    for (int64_t h = 0; h < sizes.heads; ++h) {
      const testing::HeadReference head(rows(a.q, sizes, b, h), rows(a.k, sizes, b, h), rows(a.v, sizes, b, h),
                                        rows(a.d_out, sizes, b, h), sizes.length, sizes.head_dim, sizes.scale);
      store(a.dq, sizes, b, h, head.dq.values);
      store(a.dk, sizes, b, h, head.dk.values);
      store(a.dv, sizes, b, h, head.dv.values);
    }
  return nullptr;
}

}  // namespace ops::cuda

namespace {

TEST_F(DeviceAttentionOnCpu, EqualTheReferenceInOutputAndGradients) {
  const auto q = drawn({2, 3, 9, 8}), k = drawn({2, 3, 9, 8}), v = drawn({2, 3, 9, 8});
  const auto out = attention(q, k, v, 0.4);
  ASSERT_TRUE(out);
  const auto expected = causal_attention_reference(q, k, v, 0.4);
  EXPECT_LT(relative_error(*out, expected), 1e-6);
  const auto d_out = torch::randn({2, 3, 9, 8});
  const auto gradients = torch::autograd::grad({*out}, {q, k, v}, {d_out});
  const auto expected_gradients = torch::autograd::grad({expected}, {q, k, v}, {d_out});
  for (int i = 0; i < 3; ++i) EXPECT_LT(relative_error(gradients[i], expected_gradients[i]), 1e-5) << i;
}

TEST_F(DeviceAttentionOnCpu, ReadTheModelsTensorsWhereTheyLie) {
  const auto qkv = torch::randn({2, 9, 3 * 24});
  const auto heads = [&](int64_t i) { return qkv.chunk(3, -1)[i].unflatten(-1, {3, 8}).transpose(1, 2); };
  ASSERT_TRUE(attention(heads(0), heads(1), heads(2), 1));
  EXPECT_EQ(behaviour.q, qkv.data_ptr<float>());
}

TEST_F(DeviceAttentionOnCpu, TakeTensorsThatLieOtherwise) {
  const auto storage = torch::randn({2 * 3 * 9 * 8 + 1});
  const auto shifted = storage.narrow(0, 1, 2 * 3 * 9 * 8).view({2, 3, 9, 8});          // not at 16 bytes
  const auto transposed = torch::randn({2, 3, 8, 9}).transpose(2, 3).requires_grad_();  // features apart
  const auto expanded = torch::randn({1, 1, 1, 8}).expand({2, 3, 9, 8});
  const auto out = attention(shifted, transposed, expanded, 0.3);
  ASSERT_TRUE(out);
  EXPECT_LT(relative_error(*out, causal_attention_reference(shifted, transposed, expanded, 0.3)), 1e-6);
  out->sum().backward();  // an expanded gradient
  EXPECT_TRUE(transposed.grad().defined());
}

TEST_F(DeviceAttentionOnCpu, ComputeInTheBestPrecisionThatTheDeviceHas) {
  const auto precision_of = [&](at::ScalarType dtype) {
    const auto x = torch::randn({1, 1, 4, 8}).to(dtype);
    EXPECT_TRUE(attention(x, x, x, 1));
    return behaviour.precision;
  };
  EXPECT_EQ(precision_of(at::kFloat), AttentionPrecision::bf16x3);
  EXPECT_EQ(precision_of(at::kBFloat16), AttentionPrecision::bf16);
  behaviour.tensor_cores = false;
  EXPECT_EQ(precision_of(at::kFloat), AttentionPrecision::fp32);
}

TEST_F(DeviceAttentionOnCpu, LeaveWhatTheyHaveNoKernelFor) {
  const auto use = [&](at::IntArrayRef sizes, at::ScalarType dtype) {
    const auto x = torch::randn(sizes).to(dtype);
    return attention(x, x, x, 1).has_value();
  };
  EXPECT_FALSE(use({1, 1, 4, 12}, at::kFloat));
  EXPECT_FALSE(use({1, 1, 4, 64}, at::kFloat));
  EXPECT_FALSE(use({0, 1, 4, 8}, at::kFloat));
  EXPECT_FALSE(use({1, 1, 4, 8}, at::kDouble));
  EXPECT_FALSE(use({1, 1, 4, 8}, at::kHalf));
  behaviour.tensor_cores = false;
  EXPECT_FALSE(use({1, 1, 4, 8}, at::kBFloat16));
  EXPECT_EQ(behaviour.forwards, 0);
}

TEST_F(DeviceAttentionOnCpu, RefusalsAreDeviceErrorsForwardAndBackward) {
  const auto q = drawn({1, 2, 9, 8}), k = drawn({1, 2, 9, 8}), v = drawn({1, 2, 9, 8});
  const auto out = attention(q, k, v, 0.4);
  ASSERT_TRUE(out);
  behaviour.refusal = behaviour.refusal_backward = "out of memory";
  EXPECT_THAT([&] { out->sum().backward(); }, ::testing::ThrowsMessage<DeviceError>(HasSubstr("out of memory")));
  EXPECT_THAT([&] { attention(q, k, v, 0.4); }, ::testing::ThrowsMessage<DeviceError>(HasSubstr("out of memory")));
}

TEST_F(DeviceAttentionOnCpu, Bf16ComesBackAsBf16WithGradients) {
  const auto x = torch::randn({1, 2, 9, 8}).to(at::kBFloat16).requires_grad_();
  const auto out = attention(x, x, x, 0.4);
  ASSERT_TRUE(out);
  EXPECT_EQ(out->scalar_type(), at::kBFloat16);
  EXPECT_LT(relative_error(out->to(at::kFloat), causal_attention_reference(x, x, x, 0.4).to(at::kFloat)), 1e-2);
  out->sum().backward();
  EXPECT_EQ(x.grad().scalar_type(), at::kBFloat16);
}

TEST_F(DeviceAttentionOnCpu, SecondDerivativesAreRefused) {
  const auto q = drawn({1, 1, 4, 8});
  const auto out = attention(q, q, q, 1);
  ASSERT_TRUE(out);
  EXPECT_THROW(torch::autograd::grad({out->sum()}, {q}, {}, /*retain_graph=*/true, /*create_graph=*/true), Error);
}

TEST_F(DeviceAttentionOnCpu, AreWhatCausalAttentionTakesWhereTheyAreRegistered) {
  const auto x = torch::randn({1, 1, 4, 8});
  use_device_attention(at::kCPU, &kernels);
  const auto own = causal_attention(x, x, x, 1);
  use_device_attention(at::kCPU, nullptr);
  EXPECT_EQ(behaviour.forwards, 1);
  const auto libtorch = causal_attention(x, x, x, 1);
  EXPECT_EQ(behaviour.forwards, 1);
  EXPECT_LT(relative_error(own, libtorch), 1e-6);
}

}  // namespace
}  // namespace igpt
