#include "src/training/validation.h"

#include <cmath>
#include <numeric>

#include "igpt/backend/backend.h"
#include "igpt/error.h"
#include "igpt/sampling/figure.h"
#include "igpt/sampling/generate.h"

namespace igpt::training {

bool draws_samples(const TrainOptions& options) {
  return !options.classify && options.sample_grid > 0;
}

Score score_validation(const ImageGPT& model, const TokenDataset& images, const TrainOptions& options,
                       ProcessGroup& group, const std::function<void()>& after_batch) {
  const auto [begin, end] = group.share(images.size());
  const TokenDataset share{images.tokens.slice(0, begin, end), images.labels.slice(0, begin, end)};
  int64_t batches = 0;
  ScoringOptions scoring;
  scoring.classify = options.classify;
  scoring.batch_size = (options.batch_size + group.size() - 1) / group.size();
  scoring.bf16 = options.precision == "bf16";
  scoring.progress = [&](int64_t) {
    ++batches;
    after_batch();
  };
  Score own;
  if (share.size() > 0) own = score(model, share, scoring);
  if (group.alone()) return own;
  const int64_t largest = (images.size() + group.size() - 1) / group.size();
  for (; batches < (largest + scoring.batch_size - 1) / scoring.batch_size; ++batches) after_batch();
  const auto count = static_cast<double>(own.count);
  const auto sums = group.sum({own.loss * count, std::round(own.accuracy * count)});
  const auto total = static_cast<double>(images.size());
  return {images.size(), sums[0] / total, sums[1] / total};
}

int64_t bytes_of_sample_grid(const ImageGPT& model, const TrainOptions& options) {
  if (!draws_samples(options)) return 0;
  const int64_t images = options.sample_grid * options.sample_grid;
  return backend::make_backend(model, {.images = images})->bytes_to_draw(images);
}

std::optional<formats::Image> draw_sample_grid(const ImageGPT& model, const TrainOptions& options,
                                               const std::function<int()>& stop_signal) try {
  const int64_t grid = options.sample_grid, side = options.model.num_pixels;
  std::vector<uint64_t> streams(static_cast<size_t>(grid * grid));
  std::iota(streams.begin(), streams.end(), 0);
  ops::SamplingOptions sampling;
  sampling.seed = options.seed;
  const auto nothing = torch::zeros({grid * grid, 0}, torch::kUInt8);
  std::vector<int64_t> classes;
  for (int64_t n = 0; n < grid * grid && options.model.conditional; ++n)
    classes.push_back(n % options.model.num_classes);
  const auto stop = [&](const sampling::Drawn&) {
    if (const int signal = stop_signal()) throw Interrupted(signal);
  };
  const auto tokens =
      sampling::generate(model, nothing, streams, sampling, stop, /*bf16=*/false, classes);  // (grid^2, S)
  const auto pixels =
      sampling::pixels_of(tokens.view({grid, grid, side, side}), model->palette());  // (grid, grid, h, w, C)
  return sampling::to_image(sampling::tiled(pixels));
} catch (const Interrupted&) {
  return {};
}

}  // namespace igpt::training
