#include "igpt/training/muon.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <utility>

#include "igpt/ops/muon.h"
#include "src/ops/cpu/aligned_buffer.h"
#include "src/ops/cpu/muon.h"
#include "src/ops/cpu/thread_pool.h"

namespace igpt::training {
namespace {

using torch::Tensor;

constexpr int64_t kShort = 128;  // of the shorter side: what the kernel takes
// Multiply-adds that take about 0.3 ms, several times what it takes to wake a thread.
constexpr int64_t kWorthAThread = int64_t{1} << 24;

// The Newton-Schulz iterations on each of x (n, rows, columns), as src/ops/cpu/muon.cc has them.
Tensor orthogonalised(Tensor x) {
  const bool is_tall = x.size(1) > x.size(2);
  if (is_tall) x = x.mT();
  x = x / (at::linalg_vector_norm(x, 2, at::IntArrayRef{1, 2}, /*keepdim=*/true) + ops::muon::kEpsilon);
  for (int i = 0; i < ops::muon::kIterations; ++i) {
    const auto a = x.bmm(x.mT());                                                     // (n, s, s)
    const auto b = a.baddbmm(a, a, /*beta=*/ops::muon::kB, /*alpha=*/ops::muon::kC);  // (n, s, s)
    x = x.baddbmm(b, x, /*beta=*/ops::muon::kA);                                      // (n, s, l)
  }
  return is_tall ? x.mT() : x;
}

}  // namespace

struct Muon::Workers {
  ops::cpu::MuonKernel kernel;
  ops::cpu::ThreadPool threads;
  std::vector<ops::cpu::AlignedBuffer> scratch;  // of each thread

  Workers(int64_t count, size_t floats) : kernel(ops::cpu::muon_kernel()), threads(static_cast<int>(count)) {
    for (int64_t i = 0; i < count; ++i) scratch.emplace_back(floats);
  }
};

Muon::Muon(const OptimizerBuffers& buffers, const std::vector<ops::Matrix>& matrices, double weight_decay,
           ops::Kernels kernels)
    : weight_decay_(weight_decay), buffers_(buffers) {
  const Tensor& weights = buffers.weights;
  const bool fused = kernels == ops::Kernels::fused && weights.is_cpu() && weights.scalar_type() == torch::kFloat32;
  int64_t multiply_adds = 0;
  size_t scratch = 0;
  for (const auto& matrix : matrices) {
    if (fused && std::min(matrix.rows, matrix.columns) <= kShort) {
      short_.push_back(matrix);
      multiply_adds += ops::cpu::muon_multiply_adds(matrix.rows, matrix.columns);
      scratch = std::max(scratch, ops::cpu::muon_scratch(matrix.rows, matrix.columns));
    } else {
      const auto view = [&](const Tensor& flat) {
        return flat.narrow(0, matrix.offset, matrix.count()).view({matrix.rows, matrix.columns});
      };
      const auto w = view(weights);
      auto group = std::ranges::find_if(groups_, [&](const Group& g) { return g.weights[0].sizes() == w.sizes(); });
      if (group == groups_.end()) group = groups_.insert(group, Group());
      group->weights.push_back(w);
      group->gradients.push_back(view(buffers.gradients));
      group->momentum.push_back(view(buffers.exp_avg));
    }
  }
  if (!short_.empty())
    workers_ = std::make_shared<Workers>(std::clamp<int64_t>(multiply_adds / kWorthAThread, 1, at::get_num_threads()),
                                         scratch);
}

void Muon::step(double learning_rate, double momentum) {
  torch::NoGradGuard no_grad;
  if (workers_) step_by_kernel(learning_rate, momentum);
  for (const auto& group : groups_) step_by_libtorch(group, learning_rate, momentum);
}

void Muon::step_by_kernel(double learning_rate, double momentum) {
  const ops::cpu::MuonRates rates{learning_rate, momentum, weight_decay_};
  const auto* g = buffers_.gradients.const_data_ptr<float>();
  auto *m = buffers_.exp_avg.data_ptr<float>(), *w = buffers_.weights.data_ptr<float>();
  std::atomic<size_t> next = 0;
  workers_->threads.run([&](int worker) {
    float* scratch = workers_->scratch[static_cast<size_t>(worker)].data();
    for (size_t i; (i = next++) < short_.size();) {
      const auto& [offset, rows, columns] = short_[i];
      workers_->kernel(rows, columns, rates, g + offset, m + offset, w + offset, scratch);
    }
  });
}

void Muon::step_by_libtorch(const Group& group, double learning_rate, double momentum) const {
  at::_foreach_lerp_(group.momentum, group.gradients, 1 - momentum);
  auto nesterov = torch::stack(at::_foreach_lerp(group.gradients, group.momentum, momentum));
  const auto update = orthogonalised(std::move(nesterov));  // (n, rows, columns)
  if (weight_decay_ > 0) {
    const auto shrinks = (update * torch::stack(group.weights) > 0).to(update.scalar_type());
    at::_foreach_mul_(group.weights, (1 - learning_rate * weight_decay_ * shrinks).unbind());
  }
  const double longer = static_cast<double>(std::max(update.size(1), update.size(2)));
  at::_foreach_add_(group.weights, update.unbind(), -learning_rate * ops::muon::kScale * std::sqrt(longer));
}

// Of the matrices of one shape, which are updated together: in an iteration x, its successor, a and b, which for square
// matrices are as large; of the weight decay the update, the weights, their product, its signs and these as numbers.
int64_t Muon::bytes_of_step(const std::vector<ops::Matrix>& matrices, double weight_decay) {
  std::map<std::pair<int64_t, int64_t>, int64_t> elements;
  for (const auto& matrix : matrices) elements[{matrix.rows, matrix.columns}] += matrix.count();
  int64_t most = 0;
  for (const auto& [shape, count] : elements) {
    const auto [shorter, longer] = std::minmax(shape.first, shape.second);
    const int64_t iteration = 2 * count + 2 * count / longer * shorter;
    most = std::max(most, 4 * std::max(iteration, weight_decay > 0 ? 4 * count + count / 4 : 0));
  }
  return most;
}

}  // namespace igpt::training
