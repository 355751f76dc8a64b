#include "igpt/training/scoring.h"

#include "igpt/ops/autocast.h"

namespace igpt::training {

Score score(ImageGPT model, const TokenDataset& dataset, const ScoringOptions& options) {
  torch::NoGradGuard no_grad;
  const auto device = dataset.tokens.device();
  auto nats = torch::zeros({}, torch::TensorOptions(device).dtype(torch::kFloat64));
  auto correct = torch::zeros({}, torch::TensorOptions(device).dtype(torch::kInt64));
  for (int64_t start = 0; start < dataset.size(); start += options.batch_size) {
    const ops::Bf16Autocast autocast(device.type(), options.bf16);
    const int64_t size = std::min(options.batch_size, dataset.size() - start);
    const auto x = dataset.tokens.narrow(0, start, size);  // (B, S)
    if (options.classify) {
      const auto y = dataset.labels.narrow(0, start, size);        // (B)
      const auto logits = model->classify(x).to(torch::kFloat32);  // (B, C)
      nats += torch::nll_loss(logits.to(torch::kFloat64).log_softmax(-1), y, /*weight=*/{}, at::Reduction::Sum);
      correct += (logits.argmax(-1) == y).sum();
      if (options.per_image) options.per_image(logits);
    } else {
      const auto nats_of_images = nats_per_image(model->forward(x).to(torch::kFloat32), x);  // (B)
      nats += nats_of_images.sum();
      if (options.per_image) options.per_image(nats_of_images);
    }
    if (options.progress) options.progress(start + size);
  }
  const int64_t per_image = options.classify ? 1 : dataset.tokens.size(1);
  const auto count = static_cast<double>(dataset.size());
  return {dataset.size(), nats.item<double>() / (count * static_cast<double>(per_image)),
          static_cast<double>(correct.item<int64_t>()) / count};
}

}  // namespace igpt::training
