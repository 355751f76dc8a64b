#include "src/ops/cuda/update_step.h"

namespace igpt::ops::cuda {

UpdateStep::UpdateStep(const Update& update, const ModelPasses::Allocate& allocate)
    : update_(update), passes_(update.shape, update.images, update.precision, allocate), adam_(update.adam) {
  tokens_ = static_cast<uint8_t*>(allocate("tokens", update.images * update.shape.sequence_length, 1));
  if (update.classify || update.shape.conditional)
    labels_ = static_cast<int64_t*>(allocate("labels", update.images, sizeof(int64_t)));
  rate_ = static_cast<float*>(allocate("rate", 1, sizeof(float)));
  if (update.plan.momenta) {
    momentum_ = static_cast<float*>(allocate("momentum", 1, sizeof(float)));
    adam_.of_muon = BlockMatrices(ParameterTable(update.shape));
  }
  adam_.learning_rate = rate_;
  adam_.gradients = update.gradients;
  adam_.norm = static_cast<float*>(allocate("norm", 1, sizeof(float)));
  adam_.scratch = static_cast<double*>(allocate("scratch of adam", kAdamScratch, sizeof(double)));
}

const char* UpdateStep::add_gradients(int64_t batch, void* stream) {
  const Update& u = update_;
  const float* const weights = simt::address(adam_.weights);
  const double share = static_cast<double>(u.images) / static_cast<double>(u.batch_size);
  const double scale = share / static_cast<double>(u.batches);
  const char* cause = gather_batch(
      {u.data, u.plan, u.augmentation, u.images, batch, u.batches, u.batch_size, tokens_, labels_}, stream);
  if (cause) return cause;
  cause = u.classify ? passes_.classifier({tokens_, labels_}, weights, scale, u.generative_weight, u.gradients, stream)
                     : passes_.generative({tokens_, labels_}, weights, scale, u.gradients, stream);
  return cause ? cause : add_scaled(passes_.loss(), share, u.loss, stream);
}

const char* UpdateStep::launch(void* stream) {
  const Update& u = update_;
  const char* cause = start_update({u.plan, adam_.count, u.gradients, rate_, u.loss, momentum_}, stream);
  for (int64_t i = 0; i < u.batches && !cause; ++i) cause = add_gradients(i, stream);
  if (!cause) cause = end_update({u.plan, u.batches * u.batch_size, u.loss, u.loss_sum}, stream);
  if (cause || !adam_.exp_avg) return cause;
  cause = adam_update(adam_, stream);
  return cause || !momentum_ ? cause : muon_update({adam_, momentum_}, stream);
}

}  // namespace igpt::ops::cuda
