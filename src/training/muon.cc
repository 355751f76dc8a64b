#include "igpt/training/muon.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "src/ops/cpu/aligned_buffer.h"
#include "src/ops/cpu/muon.h"

namespace igpt::training {
namespace {

using torch::Tensor;

constexpr int64_t kShort = 128;  // the longest side s for which the kernel is faster than LibTorch's products

// Five Newton-Schulz iterations on each of x (n, rows, columns), as src/ops/cpu/muon.cc has them.
Tensor orthogonalised(Tensor x) {
  const bool is_tall = x.size(1) > x.size(2);
  if (is_tall) x = x.mT();
  x = x / (at::linalg_vector_norm(x, 2, at::IntArrayRef{1, 2}, /*keepdim=*/true) + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const auto a = x.bmm(x.mT());                                        // (n, s, s)
    const auto b = a.baddbmm(a, a, /*beta=*/-4.7750, /*alpha=*/2.0315);  // (n, s, s)
    x = x.baddbmm(b, x, /*beta=*/3.4445);                                // (n, s, l)
  }
  return is_tall ? x.mT() : x;
}

}  // namespace

Muon::Muon(const Tensor& weights, const Tensor& gradients, const std::vector<ops::Matrix>& matrices,
           double weight_decay, ops::Kernels kernels)
    : weight_decay_(weight_decay), weights_(weights), gradients_(gradients) {
  int64_t count = 0;
  for (const auto& matrix : matrices) count += matrix.count();
  momentum_ = torch::zeros({count}, weights.options());
  const bool fused = kernels == ops::Kernels::fused && weights.is_cpu() && weights.scalar_type() == torch::kFloat32;
  int64_t place = 0;
  for (const auto& matrix : matrices) {
    if (fused && std::min(matrix.rows, matrix.columns) <= kShort) {
      short_.push_back({matrix, place});
    } else {
      const auto view = [&](const Tensor& flat, int64_t offset) {
        return flat.narrow(0, offset, matrix.count()).view({matrix.rows, matrix.columns});
      };
      const auto w = view(weights, matrix.offset);
      auto group = std::ranges::find_if(groups_, [&](const Group& g) { return g.weights[0].sizes() == w.sizes(); });
      if (group == groups_.end()) group = groups_.insert(group, Group());
      group->weights.push_back(w);
      group->gradients.push_back(view(gradients, matrix.offset));
      group->momentum.push_back(view(momentum_, place));
    }
    place += matrix.count();
  }
}

void Muon::step(double learning_rate, double momentum) {
  torch::NoGradGuard no_grad;
  if (!short_.empty()) step_by_kernel(learning_rate, momentum);
  for (const auto& group : groups_) step_by_libtorch(group, learning_rate, momentum);
}

void Muon::step_by_kernel(double learning_rate, double momentum) {
  const auto kernel = ops::cpu::muon_kernel();
  const ops::cpu::MuonRates rates{learning_rate, momentum, weight_decay_};
  const auto* g = gradients_.const_data_ptr<float>();
  auto *m = momentum_.data_ptr<float>(), *w = weights_.data_ptr<float>();
  size_t most = 0;
  for (const auto& [matrix, place] : short_) most = std::max(most, ops::cpu::muon_scratch(matrix.rows, matrix.columns));
  at::parallel_for(0, static_cast<int64_t>(short_.size()), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    const ops::cpu::AlignedBuffer scratch(most);
    for (int64_t i = begin; i < end; ++i) {
      const auto& [matrix, place] = short_[static_cast<size_t>(i)];
      kernel(matrix.rows, matrix.columns, rates, g + matrix.offset, m + place, w + matrix.offset, scratch.data());
    }
  });
}

void Muon::step_by_libtorch(const Group& group, double learning_rate, double momentum) const {
  at::_foreach_lerp_(group.momentum, group.gradients, 1 - momentum);
  const auto nesterov = at::_foreach_lerp(group.gradients, group.momentum, momentum);
  const auto update = orthogonalised(torch::stack(nesterov));  // (n, rows, columns)
  if (weight_decay_ > 0) {
    const auto shrinks = (update * torch::stack(group.weights) > 0).to(update.scalar_type());
    at::_foreach_mul_(group.weights, (1 - learning_rate * weight_decay_ * shrinks).unbind());
  }
  const double longer = static_cast<double>(std::max(update.size(1), update.size(2)));
  at::_foreach_add_(group.weights, update.unbind(), -learning_rate * 0.2 * std::sqrt(longer));
}

}  // namespace igpt::training
