#include "igpt/ops/causal_attention.h"

#include <sstream>

#include "igpt/error.h"
#include "igpt/libtorch.h"
#include "igpt/ops/kernels.h"
#include "src/ops/attention_kernels.h"

namespace igpt::ops {
namespace {

void check_shapes(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (q.dim() == 4 && q.sizes() == k.sizes() && q.sizes() == v.sizes()) return;
  std::ostringstream message;
  message << "causal attention: q " << q.sizes() << ", k " << k.sizes() << " and v " << v.sizes()
          << " must have one shape (B, H, S, d)";
  throw Error(message.str());
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  check_shapes(q, k, v);
  if (kernels() == Kernels::reference) return causal_attention_reference(q, k, v, scale);
  if (auto* const own = attention_kernels(q.device().type()); own && kernels() != Kernels::libtorch)
    if (const auto out = (*own)(q, k, v, scale)) return *out;
  return libtorch_attention(q, k, v, scale);
}

at::Tensor causal_attention_reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale) {
  check_shapes(q, k, v);
  const int64_t length = q.size(2);
  const auto later =
      at::ones({length, length}, q.options().dtype(at::kBool)).triu(/*diagonal=*/1);  // (S, S) key > query
  auto logits = at::matmul(q, k.transpose(-2, -1)) * scale;                           // (B, H, S, S)
  logits = logits.masked_fill(later, -std::numeric_limits<float>::infinity());
  return at::matmul(logits.softmax(-1), v);  // (B, H, S, d)
}

}  // namespace igpt::ops
