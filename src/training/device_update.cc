#include "device_update.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "igpt/ops/flat_parameters.h"
#include "igpt/training/augment.h"
#include "igpt/training/schedule.h"
#include "src/model/kernel_shapes.h"

namespace igpt::training {
namespace {

using torch::Tensor;

constexpr int64_t kPlanned = 64;  // updates that are planned at a time

/// Copies without waiting for what the device is doing.
void copy_over(const Tensor& to, const Tensor& from) {
  to.copy_(to.is_cuda() ? from.pin_memory() : from, /*non_blocking=*/true);
}

std::vector<Tensor> copies_of(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> copies;
  for (const auto& tensor : tensors) copies.push_back(tensor.clone());
  return copies;
}

void restore(const std::vector<Tensor>& tensors, const std::vector<Tensor>& copies) {
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].copy_(copies[i]);
}

double norm_of(const Tensor& x) {
  return x.to(torch::kFloat64).norm().item<double>();
}

std::string differs(const std::string& what, double by) {
  char number[32];
  std::snprintf(number, sizeof number, "%.2g", by);
  return what + " differs from LibTorch's by " + number;
}

}  // namespace

std::unique_ptr<DeviceUpdate> DeviceUpdate::make(const TrainOptions& options, const UpdateState& state,
                                                 EagerUpdate& eager, const Hooks& hooks) {
  const auto chosen =
      ops::choose_kernels(state.loss.device(), device_shape(options.model), place_of_batch(options, 0, 0).size,
                          ops::DeviceTask::update, options.precision == "bf16");
  if (!chosen || state.images.tokens.scalar_type() != torch::kUInt8) return nullptr;
  return std::unique_ptr<DeviceUpdate>(new DeviceUpdate(options, state, eager, hooks, chosen));
}

DeviceUpdate::DeviceUpdate(const TrainOptions& options, const UpdateState& state, EagerUpdate& eager,
                           const Hooks& hooks, const ops::ChosenKernels& chosen)
    : options_(options),
      state_(state),
      eager_(eager),
      note_(hooks.note),
      chosen_(chosen),
      order_(state.images.size(), options.seed) {
  const auto on_device = torch::TensorOptions(state.loss.device());
  const int64_t size = place_of_batch(options_, 0, 0).size;
  state_.images = {state.images.tokens.contiguous(), state.images.labels.contiguous()};
  chosen_images_ = torch::zeros({kPlanned, options_.accumulate, size}, on_device.dtype(torch::kInt64));
  rates_ = torch::zeros({kPlanned}, on_device.dtype(torch::kFloat32));
  next_ = torch::zeros({2}, on_device.dtype(torch::kInt64));
}

ops::cuda::Update DeviceUpdate::arguments() const {
  ops::cuda::Update update;
  const FlatAdam& adam = *state_.adam;
  update.shape = chosen_.shape;
  update.precision = chosen_.precision;
  update.data = {state_.images.size(), state_.images.tokens.size(1), state_.images.tokens.data_ptr<uint8_t>(),
                 state_.images.labels.data_ptr<int64_t>()};
  update.plan = {kPlanned, chosen_images_.data_ptr<int64_t>(), rates_.data_ptr<float>(), next_.data_ptr<int64_t>()};
  update.augmentation = {options_.augment.shift, options_.augment.flip, augmentation_seed(options_.seed)};
  update.images = chosen_images_.size(2);
  update.batch_size = options_.batch_size;
  update.batches = options_.accumulate;
  update.classify = options_.classify;
  update.generative_weight = options_.generative_weight;
  update.gradients = adam.gradients().data_ptr<float>();
  update.loss = state_.loss.data_ptr<double>();
  update.adam.count = adam.weights().numel();
  update.adam.weights = adam.weights().data_ptr<float>();
  if (!is_whole()) return update;
  update.loss_sum = state_.loss_sum.data_ptr<double>();
  update.adam.exp_avg = adam.exp_avg().data_ptr<float>();
  update.adam.exp_avg_sq = adam.exp_avg_sq().data_ptr<float>();
  update.adam.step = adam.updates().data_ptr<float>();
  update.adam.beta1 = options_.beta1;
  update.adam.beta2 = options_.beta2;
  update.adam.weight_decay = options_.weight_decay;
  update.adam.largest_norm = options_.grad_clip.value_or(0);
  if (state_.average) {
    update.adam.average = state_.average->weights().data_ptr<float>();
    update.adam.average_decay = options_.ema;
  }
  return update;
}

// What the device reads of update `step` and those that follow.
void DeviceUpdate::plan(int64_t step) {
  if (step >= planned_from_ && step < planned_to_) return;
  planned_from_ = step;
  planned_to_ = std::min(step + kPlanned, options_.steps);
  const auto images = torch::zeros(chosen_images_.sizes(), torch::kInt64);
  const auto rates = torch::zeros({kPlanned}, torch::kFloat32);
  for (int64_t u = 0; u < planned_to_ - step; ++u) {
    rates[u] = learning_rate(options_, step + u);
    for (int64_t i = 0; i < options_.accumulate; ++i) {
      const auto place = place_of_batch(options_, step + u, i);
      images[u][i] = order_.batch(place.position, place.size);
    }
  }
  copy_over(chosen_images_, images);
  copy_over(rates_, rates);
  copy_over(next_, torch::tensor({int64_t{0}, place_of_batch(options_, step, 0).position}, torch::kInt64));
}

bool DeviceUpdate::run(int64_t step) {
  constexpr auto kTask = ops::DeviceTask::update;
  if (chosen_.kernels->distrusted(kTask)) return false;
  try {
    plan(step);
    if (work_)
      work_->repeat();
    else if (const auto cause = try_out(step); !cause.empty())
      chosen_.kernels->distrust(kTask, cause, note_);
  } catch (const std::exception& error) {
    chosen_.kernels->distrust(kTask, error.what(), note_);
  }
  if (chosen_.kernels->distrusted(kTask)) {
    work_.reset();
    return false;
  }
  if (is_whole()) state_.adam->remember_learning_rate(learning_rate(options_, step));
  return true;
}

std::vector<Tensor> DeviceUpdate::changed() const {
  const FlatAdam& adam = *state_.adam;
  std::vector<Tensor> tensors{adam.weights(), adam.exp_avg(), adam.exp_avg_sq(), adam.updates(), state_.loss_sum};
  if (state_.average) tensors.push_back(state_.average->weights());
  tensors.push_back(next_);
  return tensors;
}

// The device's gradients and loss beside those of LibTorch, parameter by parameter; those of parameters on which the
// loss hardly depends are rounding. A trained model's gradients are small differences, hence further off than the loss.
std::string DeviceUpdate::difference_of_gradients(const Tensor& expected, const Tensor& expected_loss) const {
  constexpr double kFloor = 0.02;  // of the norm of all
  constexpr double kFurther = 4;
  const double limit = ops::tolerance(chosen_.precision), loss = expected_loss.item<double>();
  if (const double off = std::abs(state_.loss.item<double>() - loss) / loss; !(off <= limit))
    return differs("the loss", off);
  const auto names = state_.model->named_parameters().keys();
  const auto ours = ops::views_of(state_.adam->gradients(), state_.model->parameters()),
             theirs = ops::views_of(expected, state_.model->parameters());
  const double of_all = norm_of(expected);
  for (size_t i = 0; i < ours.size(); ++i) {
    const double off = norm_of(ours[i] - theirs[i]) / (norm_of(theirs[i]) + kFloor * of_all);
    if (!(off <= kFurther * limit)) return differs("the gradient of " + names[i], off);
  }
  return "";
}

// What the device made of its gradients beside what LibTorch, now in place, makes of the same.
std::string DeviceUpdate::difference_of_update(const std::vector<Tensor>& before,
                                               const std::vector<Tensor>& ours) const {
  constexpr double kLimit = 1e-4, kRounding = 1e-6;
  const auto theirs = changed();
  const char* const names[] = {"the update of the weights", "Adam's first moment",   "Adam's second moment",
                               "the count of updates",      "the sum of the losses", "the weights' average"};
  for (size_t i = 0; i + 1 < theirs.size(); ++i) {  // all but the place in the plan, which is the device's own
    const double most = kLimit * norm_of(theirs[i] - before[i]) + kRounding * norm_of(theirs[i]);
    if (const double off = norm_of(ours[i] - theirs[i]); !(off <= most)) return differs(names[i], off);
  }
  return "";
}

// The first update, recorded and compared. Returns what is wrong with it, and leaves everything as it was then.
std::string DeviceUpdate::try_out(int64_t step) {
  const auto state = changed();
  const auto before = copies_of(state);
  auto in_fp32 = options_;  // two roundings to bf16 would differ by more than each of them from this
  in_fp32.precision = "fp32";
  EagerUpdate(in_fp32, state_, {}).compute_gradients(step);
  const auto gradients = state_.adam->gradients().clone(), loss = state_.loss.clone();
  std::string fault;
  try {
    auto work = (*chosen_.kernels)->update(state_.loss.device(), arguments());
    work->launch();
    restore(state, before);
    work->record();
    work->repeat();
    fault = difference_of_gradients(gradients, loss);
    if (fault.empty() && is_whole()) {
      const auto after = copies_of(state);
      restore(state, before);
      eager_.apply(step);
      fault = difference_of_update(before, after);
      restore(state, after);
    }
    if (fault.empty()) work_ = std::move(work);
  } catch (...) {
    restore(state, before);
    throw;
  }
  if (!fault.empty()) restore(state, before);
  return fault;
}

}  // namespace igpt::training
