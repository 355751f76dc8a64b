#include "igpt/model/causal_attention.h"

#include <sstream>

#include "igpt/error.h"
#include "igpt/libtorch.h"
#include "igpt/ops/kernel_choice.h"
#include "src/model/device_attention.h"

namespace igpt {
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
  const auto choice = ops::kernel_choice();
  if (choice == ops::Kernels::reference) return causal_attention_reference(q, k, v, scale);
  if (const auto* const kernels = device_attention(q.device().type()); kernels && choice == ops::Kernels::fused)
    if (const auto out = attend_on_device(*kernels, q, k, v, scale)) return *out;
  return at::scaled_dot_product_attention(q, k, v, /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true, scale);
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

}  // namespace igpt
