#include "igpt/sampling/figure.h"

#include <algorithm>
#include <cmath>

#include "igpt/error.h"

namespace igpt::sampling {

using torch::Tensor;

int64_t scaled_side(int64_t side, double scale) {
  return std::max<int64_t>(1, std::llround(static_cast<double>(side) * scale));
}

std::vector<int64_t> source_pixels(int64_t side, double scale) {
  std::vector<int64_t> source(static_cast<size_t>(scaled_side(side, scale)));
  const auto target = static_cast<int64_t>(source.size());
  for (int64_t i = 0; i < target; ++i) source[static_cast<size_t>(i)] = (2 * i + 1) * side / (2 * target);
  return source;
}

Tensor scaled(const Tensor& pixels, double scale) {
  return pixels.index_select(-3, torch::tensor(source_pixels(pixels.size(-3), scale)))
      .index_select(-2, torch::tensor(source_pixels(pixels.size(-2), scale)));
}

Tensor pixels_of(const Tensor& tokens, const Tensor& palette) {
  const auto index = tokens.to(torch::kInt64);
  if (index.numel() > 0 && (index.min().item<int64_t>() < 0 || index.max().item<int64_t>() >= palette.size(0)))
    throw InputError("a token lies outside the palette of " + std::to_string(palette.size(0)) + " colours");
  return palette.index({index});
}

Tensor tiled(const Tensor& images) {
  const int64_t rows = images.size(0), columns = images.size(1), h = images.size(2), w = images.size(3);
  return images.transpose(1, 2).reshape({rows * h, columns * w, images.size(4)});
}

formats::Image to_image(const Tensor& pixels) {
  const auto dense = pixels.cpu().contiguous();
  formats::Image image{pixels.size(0), pixels.size(1), pixels.size(2), {}};
  const auto* bytes = dense.const_data_ptr<uint8_t>();
  image.pixels.assign(bytes, bytes + dense.numel());
  return image;
}

formats::Image completion_figure(const Tensor& palette, const Tensor& originals, const Tensor& samples,
                                 int64_t context_rows, double scale) {
  const auto truth = pixels_of(originals, palette).unsqueeze(1);  // (E, 1, h, w, C)
  const auto drawn = pixels_of(samples, palette);                 // (E, K, h, w, C)
  auto context = truth.clone();
  context.narrow(2, context_rows, context.size(2) - context_rows).zero_();
  return to_image(tiled(scaled(torch::cat({context, drawn, truth}, /*dim=*/1), scale)));
}

formats::Image samples_figure(const Tensor& palette, const Tensor& samples, double scale) {
  return to_image(tiled(scaled(pixels_of(samples, palette), scale)));
}

}  // namespace igpt::sampling
