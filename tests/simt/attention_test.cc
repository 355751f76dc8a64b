#include "src/ops/cuda/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <ostream>
#include <random>

#include "simt/attention_reference.h"
#include "simt/device_memory.h"

namespace igpt::ops::cuda {
namespace {

using simt::Buffer;
using testing::Expected;
using testing::HeadReference;

// huge: up to 550 in base 2, where fp32 itself rounds one by 6e-5; all_huge: 600 of each query with its
// own key, far above those with the others
enum class Logits { ordinary, huge, all_huge };

struct Case {
  int batch, heads, length, head_dim;
  Logits logits;
  AttentionPrecision precision;
};

const char* name_of(AttentionPrecision precision) {
  return precision == AttentionPrecision::fp32 ? "fp32" : precision == AttentionPrecision::bf16x3 ? "bf16x3" : "bf16";
}

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << name_of(c.precision) << "_d" << c.head_dim << "_S" << c.length
             << (c.logits == Logits::huge ? "_huge" : "");
}

/// Of outputs and gradients, by norm.
double limit(const Case& c) {
  return c.precision == AttentionPrecision::fp32 ? 3e-6 : c.precision == AttentionPrecision::bf16x3 ? 2e-5 : 5e-3;
}

/// Of the log-sum-exp, absolute.
double limit_of_log_sum_exp(const Case& c) {
  const bool bf16 = c.precision == AttentionPrecision::bf16;
  return c.logits == Logits::huge ? (bf16 ? 3e-2 : 6e-4) : (bf16 ? 1e-4 : 5e-6);
}

/// q, k and v lie as the model has them, (B, S, 3, H, d), and so do their gradients; out as (B, S, H, d).
struct Attention {
  Case c;
  float scale;
  std::vector<float> qkv_values, d_out_values;
  Buffer<float> qkv, d_out, out, log_sum_exp, delta, d_qkv;

  explicit Attention(const Case& of)
      : c(of),
        scale(static_cast<float>(1 / std::sqrt(c.head_dim))),
        qkv_values(draw(3)),
        d_out_values(draw(1)),
        qkv("qkv", with_logits(qkv_values)),
        d_out("d_out", d_out_values),
        out("out", size()),
        log_sum_exp("log_sum_exp", rows()),
        delta("delta", rows()),
        d_qkv("d_qkv", 3 * size()) {}

  size_t rows() const { return static_cast<size_t>(c.batch) * c.heads * c.length; }
  size_t size() const { return rows() * c.head_dim; }
  size_t place(int part, int parts, int b, int h, int s) const {  // in (B, S, parts, H, d)
    return (((static_cast<size_t>(b) * c.length + s) * parts + part) * c.heads + h) * c.head_dim;
  }

  std::vector<float> draw(int parts) const {
    std::mt19937 random(static_cast<unsigned>(c.length * 37 + c.head_dim + parts));
    std::normal_distribution<float> normal;
    std::vector<float> values(parts * size());
    for (float& x : values) x = normal(random);
    return values;
  }

  /// Scales q and k such that the largest logit of the first head is 550.
  const std::vector<float>& with_logits(std::vector<float>& values) const {
    if (c.logits == Logits::ordinary) return values;
    if (c.logits == Logits::all_huge) return with_huge_logits(values);
    double largest = 0;
    for (int i = 0; i < c.length; ++i)
      for (int j = 0; j <= i; ++j) {
        const float *q = &values[place(0, 3, 0, 0, i)], *k = &values[place(1, 3, 0, 0, j)];
        largest = std::max(largest, std::fabs(std::inner_product(q, q + c.head_dim, k, 0.0)));
      }
    const auto factor = static_cast<float>(std::sqrt(550 / (largest * scale * std::log2(std::exp(1.0)))));
    for (size_t i = 0; i < values.size(); ++i)
      if (i / (static_cast<size_t>(c.heads) * c.head_dim) % 3 < 2) values[i] *= factor;
    return values;
  }

  /// Keys become longer from one to the next, so that earlier ones weigh nothing.
  const std::vector<float>& with_huge_logits(std::vector<float>& values) const {
    const auto d = static_cast<size_t>(c.head_dim);
    for (int b = 0; b < c.batch; ++b)
      for (int h = 0; h < c.heads; ++h)
        for (int s = 0; s < c.length; ++s) {
          float *const q = &values[place(0, 3, b, h, s)], *const k = &values[place(1, 3, b, h, s)];
          for (size_t i = 0; i < d; ++i) k[i] = q[i] + 0.05f * k[i];
          const double logit = std::inner_product(q, q + d, k, 0.0) * scale / std::log(2.0);
          const double factor = std::sqrt(600 / logit), longer = std::pow(1.1, s);
          for (size_t i = 0; i < d; ++i) {
            q[i] *= static_cast<float>(factor / longer);
            k[i] *= static_cast<float>(factor * longer);
          }
        }
    return values;
  }

  template <class T>
  Heads<T> heads(Buffer<float>& buffer, int part, int parts) const {
    const int row = parts * c.heads * c.head_dim;
    return {buffer.data() + int64_t{part} * c.heads * c.head_dim, int64_t{row} * c.length, c.head_dim, row};
  }
  AttentionSizes sizes() const { return {c.batch, c.heads, c.length, c.head_dim, scale}; }

  void run(const AttentionLaunch& launch = {}) {
    const auto q = heads<const float>(qkv, 0, 3), k = heads<const float>(qkv, 1, 3), v = heads<const float>(qkv, 2, 3);
    ASSERT_STREQ(
        attention_forward({sizes(), q, k, v, heads<float>(out, 0, 1), log_sum_exp.data()}, c.precision, launch),
        nullptr);
    ASSERT_STREQ(attention_backward({sizes(), q, k, v, heads<const float>(out, 0, 1), heads<const float>(d_out, 0, 1),
                                     log_sum_exp.data(), delta.data(), heads<float>(d_qkv, 0, 3),
                                     heads<float>(d_qkv, 1, 3), heads<float>(d_qkv, 2, 3)},
                                    c.precision, launch),
                 nullptr);
    simt::wait_for_device();
  }

  std::vector<float> head_of(const std::vector<float>& values, int part, int parts, int b, int h) const {
    std::vector<float> head;
    for (int s = 0; s < c.length; ++s) {
      const auto from = values.begin() + static_cast<ptrdiff_t>(place(part, parts, b, h, s));
      head.insert(head.end(), from, from + c.head_dim);
    }
    return head;
  }
};

/// Error by norm over the heads.
struct Error {
  double difference = 0, values = 0, terms = 0;

  void add(const std::vector<float>& computed, const Expected& expected) {
    for (size_t i = 0; i < computed.size(); ++i) {
      difference += (computed[i] - expected.values[i]) * (computed[i] - expected.values[i]);
      values += expected.values[i] * expected.values[i];
      terms += expected.terms[i] * expected.terms[i];
    }
  }
  /// Relative to the values; to the terms of which they are sums where these cancel each other.
  double relative(Logits logits) const {
    const bool cancel = logits == Logits::huge || values < 1e-9 * terms;
    return std::sqrt(difference / (cancel ? terms : values));
  }
};

class CudaAttention : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
    if (kinds_of_device().empty()) GTEST_SKIP() << "no bf16 tensor cores";
    simt::set_order(1);
  }

  /// Whose results differ. Of long sequences the last one: the shorter ones do.
  static std::vector<int> kinds_of_device() {
    if (GetParam().precision == AttentionPrecision::fp32) return {0};
    const auto kinds = simt::kinds_of_tensor_cores();
    return GetParam().length > 300 && !kinds.empty() ? std::vector{kinds.back()} : kinds;
  }
};

void expect_within_the_limit(const Case& of) {
  Attention attention(of);
  attention.run();
  if (::testing::Test::HasFatalFailure()) return;
  EXPECT_EQ(attention.out.unwritten() + attention.log_sum_exp.unwritten() + attention.d_qkv.unwritten(), 0);
  const Case& c = attention.c;
  const auto out = attention.out.values(), log_sum_exp = attention.log_sum_exp.values(),
             d_qkv = attention.d_qkv.values();
  Error errors[4];
  double error_log_sum_exp = 0;
  for (int b = 0; b < c.batch; ++b)
    for (int h = 0; h < c.heads; ++h) {
      const auto head = [&](int part) { return attention.head_of(attention.qkv_values, part, 3, b, h); };
      const HeadReference expected(head(0), head(1), head(2), attention.head_of(attention.d_out_values, 0, 1, b, h),
                                   c.length, c.head_dim, attention.scale);
      errors[0].add(attention.head_of(out, 0, 1, b, h), expected.out);
      errors[1].add(attention.head_of(d_qkv, 0, 3, b, h), expected.dq);
      errors[2].add(attention.head_of(d_qkv, 1, 3, b, h), expected.dk);
      errors[3].add(attention.head_of(d_qkv, 2, 3, b, h), expected.dv);
      const size_t first = (static_cast<size_t>(b) * c.heads + h) * c.length;
      for (int s = 0; s < c.length; ++s)
        error_log_sum_exp = std::max(error_log_sum_exp, std::fabs(log_sum_exp[first + s] - expected.log_sum_exp[s]));
    }
  const char* const names[] = {"out", "dq", "dk", "dv"};
  for (int i = 0; i < 4; ++i) {
    const double error = errors[i].relative(c.logits);
    EXPECT_LT(error, limit(c)) << names[i];
    ::testing::Test::RecordProperty(names[i], ::testing::PrintToString(error));
  }
  EXPECT_LT(error_log_sum_exp, limit_of_log_sum_exp(c));
  ::testing::Test::RecordProperty("log_sum_exp", ::testing::PrintToString(error_log_sum_exp));
}

TEST_P(CudaAttention, IsWithinTheLimitOfDoublePrecision) {
  for (const int kind : kinds_of_device()) {
    SCOPED_TRACE(kind);
    simt::set_tensor_cores(kind);
    expect_within_the_limit(GetParam());
  }
}

TEST_P(CudaAttention, IsTheSameBitsInAnotherOrderAndInChunks) {
  if (GetParam().length > 300) return;  // the shorter ones do
  Attention attention(GetParam());
  attention.run();
  if (HasFatalFailure()) return;
  const auto out = attention.out.values(), log_sum_exp = attention.log_sum_exp.values(),
             d_qkv = attention.d_qkv.values();
  simt::set_order(2);
  attention.run({.chunk = 32});
  if (HasFatalFailure()) return;
  EXPECT_EQ(attention.out.values(), out);
  EXPECT_EQ(attention.log_sum_exp.values(), log_sum_exp);
  EXPECT_EQ(attention.d_qkv.values(), d_qkv);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto precision : {AttentionPrecision::fp32, AttentionPrecision::bf16x3, AttentionPrecision::bf16})
    for (const int head_dim : {8, 16, 32})
      for (const auto logits : {Logits::ordinary, Logits::huge}) {
        for (const int length : {1, 15, 16, 17, 33}) all.push_back({2, 2, length, head_dim, logits, precision});
        for (const int length : {100, 784}) all.push_back({1, 1, length, head_dim, logits, precision});
      }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaAttention, ::testing::ValuesIn(cases()), ::testing::PrintToStringParamName());

// Where one key has all the weight, 2^0, dV is d_out, if the backward pass computes the very logit that the forward
// pass did: of logits of 600, which fp32 has in steps of 6e-5, another one would be seen.
TEST(CudaAttentionLogits, OfBothPassesAreTheSameBits) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  for (const int kind : simt::kinds_of_tensor_cores())
    for (const int head_dim : {8, 16, 32}) {
      if (head_dim == 8 && kind == 8) continue;  // halves of a product are added in turn, in another order
      SCOPED_TRACE(::testing::Message() << head_dim << " columns, " << kind << " products at a time");
      simt::set_tensor_cores(kind);
      Attention attention({16, 4, 16, head_dim, Logits::all_huge, AttentionPrecision::bf16x3});
      attention.run();
      if (HasFatalFailure()) return;
      const auto d_qkv = attention.d_qkv.values();
      double largest = 0;
      for (int b = 0; b < attention.c.batch; ++b)
        for (int h = 0; h < attention.c.heads; ++h) {
          const auto dv = attention.head_of(d_qkv, 2, 3, b, h),
                     d_out = attention.head_of(attention.d_out_values, 0, 1, b, h);
          for (size_t i = 0; i < dv.size(); ++i)
            largest = std::max(largest, std::fabs(static_cast<double>(dv[i]) / d_out[i] - 1));
        }
      EXPECT_LT(largest, 1.2e-5);
    }
}

TEST(CudaAttentionArguments, WhatHasNoKernelIsRefusedInWords) {
  if (const auto cause = simt::why_not_here(); !cause.empty()) GTEST_SKIP() << cause;
  Attention attention({1, 1, 4, 8, Logits::ordinary, AttentionPrecision::fp32});
  const auto q = attention.heads<const float>(attention.qkv, 0, 3);
  AttentionForward good{attention.sizes(),           q, q, q, attention.heads<float>(attention.out, 0, 1),
                        attention.log_sum_exp.data()};
  const auto refused = [](const AttentionForward& arguments) {
    const char* cause = attention_forward(arguments, AttentionPrecision::fp32);
    return std::string(cause ? cause : "");
  };
  EXPECT_EQ(refused(good), "");
  auto other = good;
  other.sizes.head_dim = 12;
  EXPECT_THAT(refused(other), ::testing::HasSubstr("sizes"));
  other = good;
  other.sizes.batch = 0;
  EXPECT_THAT(refused(other), ::testing::HasSubstr("sizes"));
  other = good;
  other.sizes.batch = 65536;
  EXPECT_THAT(refused(other), ::testing::HasSubstr("sizes"));
  other = good;
  other.q.row_stride += 1;
  EXPECT_THAT(refused(other), ::testing::HasSubstr("multiples of 16 bytes"));
  other = good;
  other.q.data = simt::address(other.q.data) + 1;
  EXPECT_THAT(refused(other), ::testing::HasSubstr("multiples of 16 bytes"));
}

}  // namespace
}  // namespace igpt::ops::cuda
