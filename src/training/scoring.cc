#include "igpt/training/scoring.h"

#include "igpt/backend/backend.h"

namespace igpt::training {

namespace {

// Nats of each image (B) given each class: (B, C).
torch::Tensor nats_by_class(backend::Backend& backend, const torch::Tensor& x, int64_t classes) {
  std::vector<torch::Tensor> nats;
  for (int64_t label = 0; label < classes; ++label)
    nats.push_back(backend.nats_per_image(
        x, torch::full({x.size(0)}, label, torch::TensorOptions(x.device()).dtype(torch::kInt64))));
  return torch::stack(nats, 1);
}

}  // namespace

Score score(ImageGPT model, const TokenDataset& dataset, const ScoringOptions& options) {
  torch::NoGradGuard no_grad;
  const auto device = dataset.tokens.device();
  auto nats = torch::zeros({}, torch::TensorOptions(device).dtype(torch::kFloat64));
  auto correct = torch::zeros({}, torch::TensorOptions(device).dtype(torch::kInt64));
  const auto backend =
      backend::make_backend(model, {.images = options.batch_size, .bf16 = options.bf16, .note = options.note});
  for (int64_t start = 0; start < dataset.size(); start += options.batch_size) {
    const int64_t size = std::min(options.batch_size, dataset.size() - start);
    const auto x = dataset.tokens.narrow(0, start, size);
    const auto y = dataset.labels.narrow(0, start, size);  // (B)
    torch::Tensor result;
    if (options.classify) {
      result = backend->class_logits(x);
      nats += torch::nll_loss(result.to(torch::kFloat64).log_softmax(-1), y, /*weight=*/{}, at::Reduction::Sum);
      correct += (result.argmax(-1) == y).sum();
    } else {
      if (options.likeliest_class) {
        const auto by_class = nats_by_class(*backend, x, model->options().num_classes);
        result = by_class.gather(1, y.unsqueeze(1)).squeeze(1);
        correct += (by_class.argmin(-1) == y).sum();
      } else if (!options.per_pixel) {
        result = backend->nats_per_image(x, y);
      }
      if (options.per_pixel) {
        const auto pixels = backend->nats_per_pixel(x, y);
        options.per_pixel(pixels);
        result = pixels.sum(1, /*keepdim=*/false, torch::kFloat64);
      }
      nats += result.sum();
    }
    if (options.per_image) options.per_image(result);
    if (options.progress) options.progress(start + size);
  }
  const int64_t per_image = options.classify ? 1 : dataset.tokens.size(1);
  const auto count = static_cast<double>(dataset.size());
  return {dataset.size(), nats.item<double>() / (count * static_cast<double>(per_image)),
          static_cast<double>(correct.item<int64_t>()) / count};
}

}  // namespace igpt::training
