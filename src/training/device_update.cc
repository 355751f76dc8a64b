#include "src/training/device_update.h"

#include <algorithm>

#include "igpt/training/augment.h"
#include "igpt/training/schedule.h"
#include "src/ops/cuda/update_step.h"

namespace igpt::training {
namespace {

using torch::Tensor;

constexpr int64_t kPlanned = 64;  // updates that are planned at a time

/// Copies without waiting for what the device is doing.
void copy_over(const Tensor& to, const Tensor& from) {
  to.copy_(to.is_cuda() ? from.pin_memory() : from, /*non_blocking=*/true);
}

}  // namespace

std::unique_ptr<DeviceUpdate> DeviceUpdate::make(const TrainOptions& options, const UpdateState& state,
                                                 backend::Backend& backend) {
  if (!backend.has_updates() || state.images.tokens.scalar_type() != torch::kUInt8) return nullptr;
  return std::unique_ptr<DeviceUpdate>(new DeviceUpdate(options, state, backend));
}

DeviceUpdate::DeviceUpdate(const TrainOptions& options, const UpdateState& state, backend::Backend& backend)
    : HostUpdate(options, state, backend),
      has_muon_(options.optimizer == "muon"),
      is_whole_(options.launch.size == 1 && (has_muon_ ? backend.has_muon() : options.optimizer == "adam")) {
  const auto on_device = torch::TensorOptions(state.loss.device());
  state_.images = {state.images.tokens.contiguous(), state.images.labels.contiguous()};
  planned_images_ = torch::zeros({kPlanned, options_.accumulate, place_of_batch(options_, 0, 0).size},
                                 on_device.dtype(torch::kInt64));
  rates_ = torch::zeros({kPlanned}, on_device.dtype(torch::kFloat32));
  momenta_ = torch::zeros_like(rates_);
  next_ = torch::zeros({2}, on_device.dtype(torch::kInt64));

  ops::cuda::Update update;
  update.data = {state_.images.size(), state_.images.tokens.size(1), state_.images.tokens.data_ptr<uint8_t>(),
                 state_.images.labels.data_ptr<int64_t>()};
  update.plan = {kPlanned, planned_images_.data_ptr<int64_t>(), rates_.data_ptr<float>(), next_.data_ptr<int64_t>()};
  update.augmentation = {options_.augment.shift, options_.augment.flip, options_.augment.padding == "reflect",
                         augmentation_seed(options_.seed)};
  update.images = planned_images_.size(2);
  update.batch_size = options_.batch_size;
  update.batches = options_.accumulate;
  update.classify = options_.classify;
  update.generative_weight = options_.generative_weight;
  const FlatOptimizer& optimizer = *state_.optimizer;
  update.gradients = optimizer.gradients().data_ptr<float>();
  update.loss = state_.loss.data_ptr<double>();
  if (is_whole_) {
    if (has_muon_) update.plan.momenta = momenta_.data_ptr<float>();
    update.loss_sum = state_.loss_sum.data_ptr<double>();
    update.adam.exp_avg = optimizer.buffers().exp_avg.data_ptr<float>();
    update.adam.exp_avg_sq = optimizer.buffers().exp_avg_sq.data_ptr<float>();
    update.adam.step = optimizer.updates().data_ptr<float>();
    update.adam.beta1 = options_.beta1;
    update.adam.beta2 = options_.beta2;
    update.adam.weight_decay = options_.weight_decay;
    update.adam.largest_norm = options_.grad_clip;
    if (state_.ema) {
      update.adam.average = state_.ema->weights().data_ptr<float>();
      update.adam.average_decay = state_.ema->decay();
    }
  }
  work_ = backend.update(update);
}

// What the device reads of update `step` and those that follow.
void DeviceUpdate::plan(int64_t step) {
  if (step >= planned_from_ && step < planned_to_) return;
  planned_from_ = step;
  planned_to_ = std::min(step + kPlanned, options_.steps);
  const auto images = torch::zeros(planned_images_.sizes(), torch::kInt64);
  const auto rates = torch::zeros({kPlanned}, torch::kFloat32), momenta = torch::zeros_like(rates);
  for (int64_t u = 0; u < planned_to_ - step; ++u) {
    rates[u] = learning_rate(options_, step + u);
    momenta[u] = muon_momentum(options_, step + u);
    for (int64_t i = 0; i < options_.accumulate; ++i) {
      const auto place = place_of_batch(options_, step + u, i);
      images[u][i] = order_.batch(place.position, place.size);
    }
  }
  copy_over(planned_images_, images);
  copy_over(rates_, rates);
  copy_over(momenta_, momenta);
  copy_over(next_, torch::tensor({int64_t{0}, place_of_batch(options_, step, 0).position}, torch::kInt64));
}

void DeviceUpdate::repeat(int64_t step) {
  plan(step);
  if (recorded_) return work_->repeat();
  work_->launch();
  work_->record();
  recorded_ = true;
}

void DeviceUpdate::compute_gradients(int64_t step) {
  repeat(step);
}

void DeviceUpdate::run(int64_t step) {
  repeat(step);
  if (is_whole_)
    state_.optimizer->remember_rates(learning_rate(options_, step), muon_momentum(options_, step));
  else
    apply(step);
}

}  // namespace igpt::training
