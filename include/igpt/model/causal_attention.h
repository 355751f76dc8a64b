#pragma once

namespace at {
class Tensor;
}

namespace igpt {

/// Causal multi-head self-attention (Vaswani et al. 2017, section 3.2): softmax(scale * q k^T, keys up to the query's
/// own position) v. q, k, v (B, H, S, d) of one floating dtype and device -> (B, H, S, d). Differentiable. Throws
/// igpt::Error on shapes that do not match. The implementation is chosen by ops::kernel_choice().
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);

/// The same, written out: the oracle of every test.
at::Tensor causal_attention_reference(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);

}  // namespace igpt
