#include "igpt/model/causal_attention.h"

#include <gtest/gtest.h>

#include "golden.h"
#include "igpt/error.h"
#include "igpt/libtorch.h"

namespace igpt {
namespace {

using testing::relative_error;

struct Case {
  int64_t batch, heads, length, head_dim;
};

class CausalAttention : public ::testing::TestWithParam<Case> {};

TEST_P(CausalAttention, EqualsTheReferenceInOutputAndGradients) {
  const auto [batch, heads, length, head_dim] = GetParam();
  torch::manual_seed(1);
  const auto inputs = torch::randn({3, batch, heads, length, head_dim});
  const auto grad_out = torch::randn({batch, heads, length, head_dim});
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  const auto run = [&](auto attention) {
    const auto leaf = inputs.clone().requires_grad_();
    const auto out = attention(leaf[0], leaf[1], leaf[2], scale);
    out.backward(grad_out);
    return std::pair(out, leaf.grad());
  };
  const auto [out, grad] = run(causal_attention);
  const auto [expected_out, expected_grad] = run(causal_attention_reference);
  EXPECT_LT(relative_error(out, expected_out), 1e-5);
  EXPECT_LT(relative_error(grad, expected_grad), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Shapes, CausalAttention,
                         ::testing::Values(Case{1, 1, 1, 4}, Case{2, 2, 15, 8}, Case{2, 2, 16, 8}, Case{1, 3, 17, 16},
                                           Case{2, 1, 49, 32}, Case{1, 2, 784, 8}));

TEST(CausalAttentionShapes, MismatchIsAnError) {
  const auto q = torch::zeros({1, 2, 3, 4}), k = torch::zeros({1, 2, 4, 4});
  EXPECT_THROW(causal_attention(q, k, k, 1), Error);
  EXPECT_THROW(causal_attention(q[0], q[0], q[0], 1), Error);
}

TEST(CausalAttentionReference, LaterKeysHaveNoInfluence) {
  const auto q = torch::randn({1, 1, 5, 4}), k = torch::randn({1, 1, 5, 4}), v = torch::randn({1, 1, 5, 4});
  const auto before = causal_attention_reference(q, k, v, 0.5);
  k.select(2, 4).fill_(100);
  v.select(2, 4).fill_(-100);
  const auto after = causal_attention_reference(q, k, v, 0.5);
  EXPECT_TRUE(torch::equal(before.narrow(2, 0, 4), after.narrow(2, 0, 4)));
  EXPECT_FALSE(torch::allclose(before.select(2, 4), after.select(2, 4)));
}

}  // namespace
}  // namespace igpt
