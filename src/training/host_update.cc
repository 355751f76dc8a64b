#include "src/training/host_update.h"

#include "igpt/training/augment.h"
#include "igpt/training/schedule.h"
#include "src/training/device_update.h"

namespace igpt::training {

BatchPlace place_of_batch(const TrainOptions& options, int64_t step, int64_t i) {
  const auto [begin, end] = options.launch.share(options.batch_size);
  return {(step * options.accumulate + i) * options.batch_size + begin, end - begin};
}

HostUpdate::HostUpdate(const TrainOptions& options, const UpdateState& state, backend::Backend& backend)
    : options_(options),
      state_(state),
      order_(state_.images.size(), options.seed),
      backend_(backend),
      objective_{options.classify, options.generative_weight} {}

void HostUpdate::compute_gradients(int64_t step) {
  state_.optimizer->zero_grad();
  state_.loss.zero_();
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    const auto place = place_of_batch(options_, step, i);
    const auto batch = next_batch(place);
    const double share = static_cast<double>(place.size) / static_cast<double>(options_.batch_size);
    const double scale = share / static_cast<double>(options_.accumulate);
    state_.loss +=
        share * backend_.add_gradients(batch.tokens, batch.labels, objective_, scale, state_.optimizer->gradients());
  }
}

void HostUpdate::apply(int64_t step) {
  state_.loss_sum += state_.loss;
  if (options_.grad_clip > 0) state_.optimizer->clip_grad_norm(options_.grad_clip);
  state_.optimizer->step(learning_rate(options_, step), muon_momentum(options_, step));
  if (state_.ema) state_.ema->add(state_.optimizer->weights(), step + 1);
}

void HostUpdate::run(int64_t step) {
  compute_gradients(step);
  apply(step);
}

TokenDataset HostUpdate::next_batch(const BatchPlace& place) {
  auto batch = state_.images.select(order_.batch(place.position, place.size));
  if (options_.augment.any()) batch.tokens = augment(batch.tokens, options_.augment, options_.seed, place.position);
  return batch;
}

std::unique_ptr<HostUpdate> make_update(const TrainOptions& options, const UpdateState& state,
                                        backend::Backend& backend) {
  if (auto update = DeviceUpdate::make(options, state, backend)) return update;
  return std::make_unique<HostUpdate>(options, state, backend);
}

}  // namespace igpt::training
