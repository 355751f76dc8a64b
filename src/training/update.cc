#include "update.h"

#include "igpt/ops/autocast.h"
#include "igpt/training/augment.h"
#include "igpt/training/schedule.h"

namespace igpt::training {

using torch::Tensor;

BatchPlace place_of_batch(const TrainOptions& options, int64_t step, int64_t i) {
  const auto [begin, end] = options.launch.share(options.batch_size);
  return {(step * options.accumulate + i) * options.batch_size + begin, end - begin};
}

EagerUpdate::EagerUpdate(const TrainOptions& options, const UpdateState& state, const Hooks& hooks)
    : options_(options),
      state_(state),
      parameters_(state_.model->parameters()),
      order_(state_.images.size(), options.seed) {
  if (!FusedModel::supports(options_.model, state_.loss.device())) return;
  std::string note;
  const auto precision = FusedModel::precision(options_.model, options_.precision == "bf16", &note);
  if (!note.empty() && hooks.note) hooks.note(note);
  fused_.emplace(options_.model, /*threads=*/0, precision);
}

void EagerUpdate::compute_gradients(int64_t step) {
  state_.adam->zero_grad();
  state_.loss.zero_();
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    const auto place = place_of_batch(options_, step, i);
    add_gradients(next_batch(place), static_cast<double>(place.size) / static_cast<double>(options_.batch_size));
  }
}

void EagerUpdate::apply(int64_t step) {
  state_.loss_sum += state_.loss;
  if (options_.grad_clip) state_.adam->clip_grad_norm(*options_.grad_clip);
  state_.adam->step(learning_rate(options_, step));
  if (state_.average) state_.average->add(state_.adam->weights(), step + 1);
}

TokenDataset EagerUpdate::next_batch(const BatchPlace& place) {
  auto batch = state_.images.select(order_.batch(place.position, place.size));
  if (options_.augment.any()) batch.tokens = augment(batch.tokens, options_.augment, options_.seed, place.position);
  return batch;
}

// Adds to the gradients and the loss what these images, the part `share` of a batch, contribute.
void EagerUpdate::add_gradients(const TokenDataset& images, double share) {
  const double scale = share / static_cast<double>(options_.accumulate);
  if (!fused_) {
    const auto loss = loss_of(images);
    (scale == 1 ? loss : loss * scale).backward();
    state_.loss += share * loss.detach().to(torch::kFloat64);
    return;
  }
  state_.loss += share * add_fused_gradients(images, scale);
}

double EagerUpdate::add_fused_gradients(const TokenDataset& batch, double scale) {
  if (!options_.classify) return fused_->add_generative_gradients(batch.tokens, parameters_, scale);
  return fused_->add_classifier_gradients(batch.tokens, batch.labels, parameters_, scale, options_.generative_weight);
}

Tensor EagerUpdate::loss_of(const TokenDataset& batch) {
  const ops::Bf16Autocast autocast(state_.loss.device().type(), options_.precision == "bf16");
  auto& model = state_.model;
  const auto h = model->features(batch.tokens);  // (B, S, D)
  const auto generative = [&] { return generative_loss(model->head->forward(h).to(torch::kFloat32), batch.tokens); };
  if (!options_.classify) return generative();
  const auto logits = model->clf_head->forward(h).to(torch::kFloat32);  // (B, C)
  const auto loss = torch::nn::functional::cross_entropy(logits, batch.labels);
  return options_.generative_weight == 0 ? loss : loss + options_.generative_weight * generative();
}

}  // namespace igpt::training
