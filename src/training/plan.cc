#include "igpt/training/plan.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "igpt/backend/backend.h"
#include "igpt/backend/devices.h"
#include "igpt/backend/machine.h"
#include "igpt/data/datasets.h"
#include "igpt/ops/cpu/fused_step.h"
#include "igpt/training/run_folder.h"
#include "igpt/training/schedule.h"
#include "igpt/training/token_dataset.h"
#include "src/training/memory_plan.h"
#include "src/training/notes.h"
#include "src/training/start.h"
#include "src/training/validation.h"

namespace igpt::training {
namespace {

// The places of a step's images in the data set, their tokens and their labels.
int64_t bytes_of_batch(const TrainOptions& options) {
  return options.batch_size * (options.model.sequence_length() + 2 * static_cast<int64_t>(sizeof(int64_t)));
}

}  // namespace

TrainOptions configuration_of(TrainOptions options) {
  options = complete(std::move(options));
  const auto check_but_for_name = [&] {
    TrainOptions named = options;
    if (named.name.empty()) named.name = "any";
    check(named);
  };
  check_but_for_name();
  starting_checkpoint(options);
  check_but_for_name();
  return options;
}

TrainingPlan plan_training(const TrainOptions& of_user, const Hooks& hooks) {
  TrainOptions options = complete(of_user);
  check(options);
  if (options.resume.empty())
    RunFolder::expect_creatable(options.log_dir, options.name);
  else
    RunFolder::expect_free(options.resume);
  const auto device = backend::prepare_device(options.device, options.threads, hooks);
  const int64_t free_memory = backend::available_memory(device);
  const auto start = starting_checkpoint(options);
  expect_model_fits(options, backend::most_memory(device));
  auto split = read_training_split(options, start, hooks);
  if (start) check_images(options, *start, split, data::fingerprint(split), hooks);
  TrainingPlan plan{.device = device.str(), .steps = options.steps};
  if (const auto dataset = dataset_of(split); !dataset.empty()) plan.dataset = data::title_of(dataset);
  const auto images = make_token_dataset(split);
  const auto [train, validation] = split_for_validation(images, options.seed);
  plan.train_images = train.size();
  plan.validation_images = validation.size();
  plan.steps_per_epoch =
      static_cast<double>(train.size()) / static_cast<double>(options.batch_size * options.accumulate);
  if (!options.resume.empty()) plan.done_steps = start->global_step;

  ImageGPT model(options.model);
  for (const auto& weights : model->parameters()) plan.parameters += weights.numel();
  backend::report_device_errors([&] {
    model->to(device);
    const auto backend = backend::make_backend(
        model, {.images = options.batch_size, .bf16 = options.precision == "bf16", .note = hooks.note});
    plan.kernels = backend->name();
    auto memory = plan_memory(options, options.batch_size, images.bytes());
    if (!backend->is_fused()) memory.drawing = bytes_of_sample_grid(model, options);
    if (device.is_cpu()) memory.saving = bytes_to_save(options);
    const bool keeps_no_activations = backend->is_fused() && device.is_cpu();
    if (!backend->is_fused())
      plan.activation_checkpointing = choose_activation_checkpointing(options, memory, free_memory, hooks);
    plan.memory = keeps_no_activations ? memory.state + memory.data + std::max(bytes_of_batch(options), memory.saving) +
                                             ops::cpu::FusedStep::bytes(model->shape(), at::get_num_threads())
                                       : memory.total(plan.activation_checkpointing);
  });
  describe_start(options, {plan.train_images, plan.validation_images, plan.parameters, plan.done_steps, plan.kernels},
                 hooks);
  return plan;
}

}  // namespace igpt::training
