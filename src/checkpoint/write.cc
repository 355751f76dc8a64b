#include "igpt/checkpoint/checkpoint.h"
#include "igpt/error.h"
#include "igpt/formats/torch_file.h"
#include "igpt/ops/muon.h"
#include "src/checkpoint/root.h"
#include "src/checkpoint/weights.h"

namespace igpt {
namespace {

using Value = formats::PickleValue;
using torch::Tensor;

// The version of Lightning whose checkpoint layout this is. Later ones migrate it.
constexpr const char* kLightningVersion = "2.0.0";

Value stored(const Tensor& tensor) {
  return stored_weight(tensor);
}

Value stored(const FieldValue& parameter) {
  return std::visit(
      [](const auto& value) {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>)
          return Value();
        else
          return Value(value);
      },
      parameter);
}

Value state_dict_value(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  auto dict = Value::ordered_dict();
  const ImageGPTOptions& model = checkpoint.model;
  if (!model.centroids.empty())
    dict.insert("centroids", stored(torch::tensor(model.centroids, torch::kFloat32).reshape({-1, model.channels})));
  for (const auto& [name, tensor] : checkpoint.state_dict) {
    if (!torch::isfinite(tensor).all().item<bool>())
      throw Error(path.string() + ": not written: gpt." + name +
                  " has an entry that is not finite; start a new run with a lower --learning_rate");
    dict.insert("gpt." + name, stored(tensor));
  }
  return dict;
}

Value hyper_parameters_value(const Checkpoint& checkpoint) {
  auto dict = Value::dict();
  for (const auto& [name, value] : checkpoint.hyper_parameters) dict.insert(name, stored(value));
  const auto& model = checkpoint.model;
  for (const auto& [name, value] : values_of(model)) dict.insert(name, stored(value));
  if (model.final_norm && *model.final_norm != find_architecture(model.arch).properties.final_norm)
    dict.insert("final_norm", *model.final_norm);
  if (!model.shifted_classifier) dict.insert("shifted_classifier", false);
  dict.insert("classify", checkpoint.classify);
  if (!checkpoint.dataset.empty()) dict.insert("dataset", checkpoint.dataset);
  if (!checkpoint.train_sha256.empty()) dict.insert("train_sha256", checkpoint.train_sha256);
  auto palette = Value::list();
  for (const uint8_t byte : model.palette) palette.push(int64_t{byte});
  if (!model.palette.empty()) {
    dict.insert("channels", model.channels);
    dict.insert("palette", palette);
  }
  return dict;
}

// What torch.optim.Muon.state_dict() has, with q, k and v in one momentum_buffer: a group of parameters, whose `state`
// is added to that of the others.
Value muon_group(const OptimizerState& optimizer, Value& state) {
  auto indices = Value::list();
  for (size_t i = 0; i < optimizer.momentum_buffer.size(); ++i) {
    const auto index = static_cast<int64_t>(optimizer.exp_avg.size() + i);
    auto entry = Value::dict();
    entry.insert("momentum_buffer", stored(optimizer.momentum_buffer[i]));
    state.insert(index, entry);
    indices.push(index);
  }
  auto group = Value::dict();
  group.insert("lr", optimizer.learning_rate);
  group.insert("weight_decay", optimizer.weight_decay);
  group.insert("momentum", optimizer.momentum);
  group.insert("nesterov", true);
  group.insert("ns_coefficients", Value::tuple({ops::muon::kA, ops::muon::kB, ops::muon::kC}));
  group.insert("eps", ops::muon::kEpsilon);
  group.insert("ns_steps", int64_t{ops::muon::kIterations});
  group.insert("adjust_lr_fn", "match_rms_adamw");
  group.insert("initial_lr", optimizer.initial_learning_rate);
  group.insert("params", indices);
  return group;
}

// What torch.optim.Adam.state_dict() returns. Where Muon takes part, a second group: Python can read that, but no
// single optimizer of PyTorch loads it.
Value optimizer_value(const OptimizerState& adam) {
  auto state = Value::dict();
  auto indices = Value::list();
  for (size_t i = 0; i < adam.exp_avg.size(); ++i) {
    const auto index = static_cast<int64_t>(i);
    auto entry = Value::dict();
    entry.insert("step", stored(torch::scalar_tensor(static_cast<double>(adam.step), torch::kFloat32)));
    entry.insert("exp_avg", stored(adam.exp_avg[i]));
    entry.insert("exp_avg_sq", stored(adam.exp_avg_sq[i]));
    state.insert(index, entry);
    indices.push(index);
  }
  auto group = Value::dict();
  group.insert("lr", adam.learning_rate);
  group.insert("betas", Value::tuple({adam.beta1, adam.beta2}));
  group.insert("eps", adam.eps);
  group.insert("weight_decay", adam.weight_decay);
  for (const char* flag : {"amsgrad", "maximize", "capturable", "differentiable"}) group.insert(flag, false);
  group.insert("decoupled_weight_decay", adam.weight_decay > 0);
  group.insert("foreach", Value());
  group.insert("fused", Value());
  group.insert("initial_lr", adam.initial_learning_rate);
  group.insert("params", indices);
  auto groups = Value::list({group});
  if (!adam.momentum_buffer.empty()) groups.push(muon_group(adam, state));
  auto dict = Value::dict();
  dict.insert("state", state);
  dict.insert("param_groups", groups);
  return dict;
}

// What torch.optim.lr_scheduler.CosineAnnealingLR.state_dict() returns when it is stepped after every update.
Value scheduler_value(const Checkpoint& checkpoint) {
  auto dict = Value::dict();
  dict.insert("T_max", checkpoint.progress->total_steps);
  dict.insert("eta_min", 0.0);
  dict.insert("base_lrs", Value::list({checkpoint.optimizer->initial_learning_rate}));
  dict.insert("last_epoch", checkpoint.global_step);
  dict.insert("_step_count", checkpoint.global_step + 1);
  dict.insert("_last_lr", Value::list({checkpoint.optimizer->learning_rate}));
  return dict;
}

Value progress_value(const TrainingProgress& progress) {
  auto dict = Value::dict();
  dict.insert("total_steps", progress.total_steps);
  dict.insert("validated_step", progress.validated_step);
  dict.insert("best_step", progress.best_step);
  dict.insert("best_score", progress.best_score);
  dict.insert("bad_validations", progress.bad_validations);
  dict.insert("train_loss_sum", progress.train_loss_sum);
  dict.insert("train_loss_count", progress.train_loss_count);
  if (!progress.weights.empty()) {
    auto weights = Value::list();
    for (const auto& weight : progress.weights) weights.push(stored(weight));
    dict.insert("weights", weights);
  }
  return dict;
}

}  // namespace

Value root_of(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  auto root = Value::dict();
  root.insert("epoch", checkpoint.epoch);
  root.insert("global_step", checkpoint.global_step);
  root.insert("pytorch-lightning_version", kLightningVersion);
  root.insert("state_dict", state_dict_value(path, checkpoint));
  root.insert("hyper_parameters", hyper_parameters_value(checkpoint));
  if (checkpoint.optimizer && checkpoint.progress) {
    root.insert("optimizer_states", Value::list({optimizer_value(*checkpoint.optimizer)}));
    root.insert("lr_schedulers", Value::list({scheduler_value(checkpoint)}));
    root.insert("igpt_progress", progress_value(*checkpoint.progress));
  }
  return root;
}

void write_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  formats::write_torch_file(path, root_of(path, checkpoint));
}

}  // namespace igpt
