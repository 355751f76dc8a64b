#include "src/training/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "igpt/error.h"
#include "igpt/training/muon.h"

namespace igpt::training {
namespace {

constexpr double kShareToUse = 0.9;                    // of what is available: allocators leave gaps
constexpr int64_t kWorthANote = int64_t{1} << 30;      // bytes
constexpr int64_t kFloat = 4, kBf16 = 2, kDouble = 8;  // bytes of a number

int64_t parameters_of(const ImageGPTOptions& model) {
  return ops::ParameterTable(shape_of(model)).count;
}

// Of one position in a block, what forward keeps for backward. `e`: bytes of a number where autocast has its way.
int64_t kept_in_block(const ImageGPTOptions& model, int64_t e) {
  const int64_t d = model.embed_dim;
  const int64_t residual = kFloat * d;                                     // of each half
  const int64_t normalised = (e == kFloat ? kFloat : kFloat + kBf16) * d;  // and as a matrix product takes it
  const int64_t attention = 3 * e * d + e * d + kFloat * model.num_heads;  // q, k, v; the result; logsumexp
  const int64_t mlp = 2 * 4 * e * d;                                       // before and after GELU
  return 2 * residual + 2 * normalised + attention + mlp;
}

// Of one position, what the loss adds to that: logits, their logarithms and the gradients of both.
int64_t kept_in_loss(const ImageGPTOptions& model, int64_t e) {
  return (e == kFloat ? 3 * kFloat : 3 * kFloat + kBf16) * model.num_vocab;
}

// Of one position, what a block's backward needs at most beside what forward kept: gradients around the MLP.
int64_t needed_by_backward(const ImageGPTOptions& model, int64_t e) {
  return (2 * 4 * e + 2 * kFloat) * model.embed_dim;
}

std::string in_words(int64_t bytes) {
  constexpr double kMebi = 1 << 20, kGibi = 1 << 30, kTebi = kGibi * 1024;
  const auto size = static_cast<double>(bytes);
  char text[32];
  if (size < kGibi)
    std::snprintf(text, sizeof text, "%.0f MiB", size / kMebi);
  else
    std::snprintf(text, sizeof text, size < kTebi ? "%.1f GiB" : "%.1f TiB", size / (size < kTebi ? kGibi : kTebi));
  return text;
}

// Weights, gradients, two moments, and the average.
int64_t bytes_of_state(const TrainOptions& options) {
  return (4 + (options.ema == 0.0 ? 0 : 1)) * kFloat * parameters_of(options.model);
}

std::vector<std::pair<std::string, int64_t*>> sizes_of(ImageGPTOptions& model) {
  std::vector<std::pair<std::string, int64_t*>> sizes;
  for_each_field(model, [&](const char* name, auto& field, const auto&...) {
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, int64_t>) sizes.emplace_back(name, &field);
  });
  return sizes;
}

// The option, as it was given, whose default would make the model smallest.
std::string largest_option(ImageGPTOptions model) {
  ImageGPTOptions usual;
  const auto sizes = sizes_of(model), usual_sizes = sizes_of(usual);
  std::string largest;
  int64_t fewest = INT64_MAX;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto& [name, size] = sizes[i];
    const int64_t given = std::exchange(*size, *usual_sizes[i].second);
    if (const int64_t count = parameters_of(model); count < fewest) {
      fewest = count;
      largest = "--" + name + " " + std::to_string(given);
    }
    *size = given;
  }
  return largest;
}

}  // namespace

MemoryPlan plan_memory(const TrainOptions& options, int64_t images, int64_t data) {
  const auto& model = options.model;
  const int64_t e = options.precision == "bf16" ? kBf16 : kFloat;
  const int64_t positions = images * model.sequence_length();
  const int64_t block = kept_in_block(model, e);
  const int64_t embedded = 2 * kFloat * model.embed_dim + kDouble;  // of a position, and its token as an index
  const bool no_logits = options.classify && options.generative_weight == 0;
  const int64_t loss = no_logits ? 0 : kept_in_loss(model, e);
  const int64_t backward = needed_by_backward(model, e);

  MemoryPlan plan;
  plan.state = bytes_of_state(options);
  plan.data = data;
  if (options.optimizer == "muon")
    plan.updating = Muon::bytes_of_step(ops::ParameterTable(shape_of(model)).matrices, options.weight_decay);
  plan.activations = positions * (embedded + model.num_layers * block + std::max(loss, backward));
  plan.checkpointed =
      positions * (embedded + model.num_layers * kFloat * model.embed_dim + std::max(loss, block + backward));
  return plan;
}

// The weights that are validated, both moments (Muon has one) and, where those weights are an average, the trained
// ones.
int64_t bytes_to_save(const TrainOptions& options) {
  const ops::ParameterTable table(shape_of(options.model));
  int64_t numbers = (3 + (options.ema == 0.0 ? 0 : 1)) * table.count;
  if (options.optimizer == "muon")
    for (const auto& matrix : table.matrices) numbers -= matrix.count();
  return kFloat * numbers;
}

void expect_model_fits(const TrainOptions& options, int64_t most) {
  const int64_t state = bytes_of_state(options);
  if (most == 0 || state <= most) return;
  throw Error(largest_option(options.model) + ": the model would have " + std::to_string(parameters_of(options.model)) +
              " parameters, which take " + std::to_string(state) + " bytes (" + in_words(state) +
              ") to train with their gradients and the optimizer's moments, and " + in_words(most) +
              " can be had here; choose a smaller model");
}

bool choose_activation_checkpointing(const TrainOptions& options, const MemoryPlan& plan, int64_t available,
                                     const Hooks& hooks) {
  const auto fits = [&](int64_t of_work) {
    const auto bytes = static_cast<double>(plan.state + plan.data + of_work);
    return available == 0 || bytes <= kShareToUse * static_cast<double>(available);
  };
  const auto& wanted = options.activation_checkpointing;
  const bool checkpointing = wanted == "on" || (wanted == "auto" && !fits(plan.activations));
  const int64_t of_batch = plan.of_batch(checkpointing), total = plan.total(checkpointing);
  struct Work {
    int64_t bytes;
    const char *before, *after, *advice;
  };
  const Work between_batches = std::max(
      {Work{plan.updating, "for an update by Muon ", "", " for Muon: choose a smaller model, or --optimizer adam"},
       Work{plan.drawing, "in validations ", " to draw samples", " to draw samples: lower --sample_grid"},
       Work{plan.saving, "for a checkpoint ", "", " to save checkpoints: choose a smaller model"}},
      [](const Work& a, const Work& b) { return a.bytes < b.bytes; });
  const bool batch_fits = fits(of_batch), rest_fits = fits(between_batches.bytes);
  const auto& tell = total >= kWorthANote || !batch_fits || !rest_fits ? hooks.note : hooks.detail;
  if (!tell) return checkpointing;
  std::string parts = "weights and optimizer " + in_words(plan.state) + ", data " + in_words(plan.data) +
                      ", activations " + in_words(of_batch);
  if (checkpointing) parts += " with activation checkpointing, without it " + in_words(plan.activations);
  if (between_batches.bytes > of_batch)
    parts += std::string("; ") + between_batches.before + in_words(between_batches.bytes) + between_batches.after;
  std::string advice;
  if (!batch_fits)
    advice = "; it may not be enough: lower --batch_size and raise --accumulate";
  else if (!rest_fits)
    advice = std::string("; it may not be enough") + between_batches.advice;
  tell("memory: about " + in_words(total) + " (" + parts + ")" +
       (available > 0 ? " of " + in_words(available) + " that are free" : "") + advice);
  return checkpointing;
}

}  // namespace igpt::training
