// What a training starts from, and what it saves.

#include <utility>

#include "igpt/backend/devices.h"
#include "igpt/backend/machine.h"
#include "igpt/data/split.h"
#include "igpt/training/restart.h"
#include "igpt/training/schedule.h"
#include "src/training/memory_plan.h"
#include "src/training/notes.h"
#include "src/training/ranks.h"
#include "src/training/start.h"
#include "src/training/trainer.h"
#include "src/training/validation.h"

namespace igpt::training {
namespace {

// Rank 0 alone reports how the work goes.
Hooks hooks_of_rank(const Hooks& hooks, const DistributedContext& launch) {
  if (launch.rank == 0) return hooks;
  Hooks quiet;
  quiet.stop_signal = hooks.stop_signal;
  return quiet;
}

// Takes over every weight whose shape fits: all, but a classifier head with another number of classes. A start token
// for each class begins as what was before the first token in the model without them.
void load_weights(ImageGPT& model, const Checkpoint& checkpoint) {
  auto parameters = model->named_parameters();
  for (const auto& [name, tensor] : checkpoint.state_dict) {
    if (parameters[name].sizes() == tensor.sizes())
      parameters[name].copy_(tensor);
    else if (name == "sos")
      model->sos.copy_(tensor.expand_as(model->sos));
  }
  if (model->shape().conditional && !checkpoint.model.conditional && model->shape().is_plane())
    model->sos.copy_(model->neighbour_tables()[model->shape().num_vocab].expand_as(model->sos));
}

// A new model, or that of a checkpoint, on the CPU.
ImageGPT initial_model(const TrainOptions& options, const std::optional<Checkpoint>& start) {
  torch::manual_seed(static_cast<uint64_t>(options.seed));
  ImageGPT model(options.model);
  const torch::NoGradGuard no_grad;
  // Smaller embeddings than torch's N(0, 1), whose sum drowns what the first blocks add.
  constexpr double kEmbeddingStd = 0.1;
  if (!model->shape().paper_initial_values)
    for (auto& weights : model->embeddings()) weights.mul_(options.embedding_std.value_or(kEmbeddingStd));
  else if (options.embedding_std)
    for (auto& weights : model->embeddings()) weights.normal_(0, *options.embedding_std);
  if (start) load_weights(model, *start);
  return model;
}

}  // namespace

Trainer::Trainer(const TrainOptions& options, const Hooks& hooks)
    : options_(complete(options)),
      hooks_(hooks_of_rank(hooks, options.launch)),
      device_(backend::prepare_device(options.device, threads_of_rank(options), hooks_, options.launch.local_rank)),
      group_(
          options.launch, device_, [this] { throw_if_stopped(hooks_); }, hooks_.note),
      loss_rows_(device_),
      step_loss_(torch::zeros_like(loss_rows_.sum())) {
  check(options_);
  agree_on_options(options_, group_);
  const int64_t free_memory = backend::available_memory(device_);
  const auto restarted = continue_restarted_run(options_, group_, hooks_);
  const auto start = starting_checkpoint(options_);
  expect_model_fits(options_, backend::most_memory(device_));
  auto split = read_training_split(options_, start, hooks_);
  hyper_parameters_ = settings_of(options_);
  dataset_ = dataset_of(split);
  if (dataset_.empty() && !options_.resume.empty()) dataset_ = start->dataset;  // of the same images
  train_sha256_ = data::fingerprint(split);
  const auto dataset = make_token_dataset(split);
  agree_on_data(dataset, options_, group_);
  if (start) check_images(options_, *start, split, train_sha256_, hooks_);
  auto [train, validation] = split_for_validation(dataset, options_.seed);
  train_ = train.to(device_);
  validation_ = validation.to(device_);

  model_ = initial_model(options_, start);
  model_->to(device_);
  group_.copy_from_first(model_->weights());
  if (*options_.ema > 0) ema_.emplace(model_, *options_.ema);
  const ops::ParameterTable table(model_->shape());
  optimizer_.emplace(
      model_->weights(), table.parameters,
      Adam::Options{.beta1 = options_.beta1, .beta2 = options_.beta2, .weight_decay = options_.weight_decay},
      options_.optimizer == "muon" ? table.matrices : std::vector<ops::Matrix>());
  const int64_t images = place_of_batch(options_, 0, 0).size;
  backend_ =
      backend::make_backend(model_, {.images = images, .bf16 = options_.precision == "bf16", .note = hooks_.note});
  update_ =
      make_update(options_, {train_, &*optimizer_, ema_ ? &*ema_ : nullptr, step_loss_, loss_rows_.sum()}, *backend_);
  if (!backend_->is_fused()) {
    auto plan = plan_memory(options_, images, train_.bytes() + validation_.bytes());
    if (group_.is_first()) plan.drawing = bytes_of_sample_grid(model_, options_);
    if (group_.is_first() && device_.is_cpu()) plan.saving = bytes_to_save(options_);
    model_->set_activation_checkpointing(choose_activation_checkpointing(options_, plan, free_memory, hooks_));
  }
  if (!options_.resume.empty()) restore(*start);
  progress_.total_steps = options_.steps;
  const bool finished = has_nothing_left(options_, step_, progress_);
  log_.emplace(options_, restarted, step_, /*goes_on=*/!finished, hooks_, group_);
  agreement_.emplace(group_, hooks_.stop_signal, device_, step_);
  describe_start(options_, {train_.size(), validation_.size(), optimizer_->weights().numel(), step_, backend_->name()},
                 hooks_);
  if (hooks_.note && !finished)
    hooks_.note("seed " + std::to_string(options_.seed) + ", writing to " + log_->folder().path().string());
}

void Trainer::restore(const Checkpoint& start) {
  optimizer_->load_state(*start.optimizer);
  step_ = start.global_step;
  progress_ = *start.progress;
  note_new_rate(options_, progress_.total_steps, step_, hooks_);
  optimizer_->load_weights(std::exchange(progress_.weights, {}));
  loss_rows_.restore(progress_.train_loss_sum, progress_.train_loss_count);
}

Checkpoint Trainer::checkpoint() const {
  Checkpoint result;
  result.model = options_.model;
  result.state_dict = copy_state_dict(trained());
  result.classify = options_.classify;
  result.epoch = epoch_of(step_);
  result.global_step = step_;
  result.hyper_parameters = hyper_parameters_;
  result.dataset = dataset_;
  result.train_sha256 = train_sha256_;
  result.optimizer = optimizer_->state();
  result.progress = progress_;
  result.progress->train_loss_sum = loss_rows_.sum().item<double>();
  result.progress->train_loss_count = loss_rows_.count();
  if (ema_)
    for (const auto& weight : model_->parameters()) result.progress->weights.push_back(weight.detach().cpu().clone());
  return result;
}

}  // namespace igpt::training
