#include "igpt/training/adam.h"

#include <cmath>

namespace igpt::training {
namespace {

using torch::Tensor;

// Up to so many parameters one thread computes an update sooner than LibTorch's threads have started.
constexpr int64_t kSmall = int64_t{1} << 18;

// As LibTorch computes it.
void update_small(const Adam::Options& o, double learning_rate, double updates, int64_t count, const float* gradients,
                  float* exp_avg, float* exp_avg_sq, float* weights) {
  const auto kept = static_cast<float>(1 - learning_rate * o.weight_decay);
  const auto new_share = static_cast<float>(1 - o.beta1), new_share_sq = static_cast<float>(1 - o.beta2);
  const auto beta2 = static_cast<float>(o.beta2), eps = static_cast<float>(o.eps);
  const auto size = static_cast<float>(learning_rate / (1 - std::pow(o.beta1, updates)));
  const auto correction = static_cast<float>(1 / std::sqrt(1 - std::pow(o.beta2, updates)));
  for (int64_t i = 0; i < count; ++i) {
    const float g = gradients[i];
    exp_avg[i] += new_share * (g - exp_avg[i]);
    exp_avg_sq[i] = beta2 * exp_avg_sq[i] + new_share_sq * (g * g);
    weights[i] = kept * weights[i] - size * exp_avg[i] / (std::sqrt(exp_avg_sq[i]) * correction + eps);
  }
}

}  // namespace

Adam::Adam(const OptimizerBuffers& buffers, const std::vector<ops::Parameter>& parameters, const Options& options,
           ops::Kernels kernels)
    : options_(options), updates_(torch::zeros({}, buffers.weights.options())) {
  int64_t count = 0;
  for (size_t i = 0; i < parameters.size();) {
    const int64_t begin = parameters[i].offset;
    int64_t end = begin;
    for (; i < parameters.size() && parameters[i].offset == end; ++i) end += parameters[i].count();
    weights_.push_back(buffers.weights.slice(0, begin, end));
    gradients_.push_back(buffers.gradients.slice(0, begin, end));
    exp_avg_.push_back(buffers.exp_avg.slice(0, begin, end));
    exp_avg_sq_.push_back(buffers.exp_avg_sq.slice(0, begin, end));
    count += end - begin;
  }
  is_small_ = kernels == ops::Kernels::fused && count <= kSmall && updates_.is_cpu() &&
              updates_.scalar_type() == torch::kFloat32;
}

void Adam::step(double learning_rate) {
  const torch::NoGradGuard no_grad;
  updates_ += 1;
  if (!is_small_) {
    const std::vector<Tensor> updates(weights_.size(), updates_);
    at::_fused_adamw_(weights_, gradients_, exp_avg_, exp_avg_sq_, /*max_exp_avg_sqs=*/{}, updates, learning_rate,
                      options_.beta1, options_.beta2, options_.weight_decay, options_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
    return;
  }
  const auto updates = updates_.item<double>();
  for (size_t i = 0; i < weights_.size(); ++i)
    update_small(options_, learning_rate, updates, weights_[i].numel(), gradients_[i].const_data_ptr<float>(),
                 exp_avg_[i].data_ptr<float>(), exp_avg_sq_[i].data_ptr<float>(), weights_[i].data_ptr<float>());
}

}  // namespace igpt::training
