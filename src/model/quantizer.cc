#include "igpt/model/quantizer.h"

#include <sstream>

#include "igpt/error.h"

namespace igpt {
namespace {

constexpr int64_t kOriginalGreys = 16;

torch::Tensor evenly_spaced_greys(int64_t num_vocab) {
  return torch::linspace(0, 255, num_vocab, torch::kFloat64).round().to(torch::kUInt8).unsqueeze(1);  // (V, 1)
}

}  // namespace

QuantizerImpl::QuantizerImpl(QuantizerOptions options) : options_(std::move(options)) {
  reset();
}

void QuantizerImpl::reset() {
  const auto greys = evenly_spaced_greys(options_.num_vocab);
  palette_ = options_.palette.defined() ? options_.palette : greys;
  const bool valid = palette_.dim() == 2 && palette_.size(0) == options_.num_vocab &&
                     (palette_.size(1) == 1 || palette_.size(1) == 3) && palette_.scalar_type() == torch::kUInt8;
  if (!valid) {
    std::ostringstream message;
    message << "the palette has shape " << palette_.sizes() << ", the model needs (" << options_.num_vocab
            << ", 1) or (" << options_.num_vocab << ", 3) bytes";
    throw UsageError(message.str());
  }
  original_greys_ = options_.num_vocab == kOriginalGreys && torch::equal(palette_, greys);
}

torch::Tensor QuantizerImpl::encode(const torch::Tensor& pixels) const {
  const int64_t channels = palette_.size(1);
  if (pixels.scalar_type() != torch::kUInt8 || pixels.dim() < 1 || pixels.size(-1) != channels)
    throw InputError("pixels must be bytes with " + std::to_string(channels) + " channels in the last dimension");
  if (original_greys_) return pixels.squeeze(-1).to(torch::kInt64).floor_divide(17);
  const auto colours = palette_.to(pixels.device(), torch::kFloat32);                 // (V, C)
  const auto flat = pixels.to(torch::kFloat32).reshape({-1, channels});               // (N, C)
  const auto distance = (flat.unsqueeze(1) - colours.unsqueeze(0)).square().sum(-1);  // (N, V)
  return distance.argmin(-1).reshape(pixels.sizes().slice(0, pixels.dim() - 1));
}

torch::Tensor QuantizerImpl::decode(const torch::Tensor& tokens) const {
  const auto index = tokens.to(torch::kInt64);
  if (index.numel() > 0 && (index.min().item<int64_t>() < 0 || index.max().item<int64_t>() >= palette_.size(0)))
    throw InputError("a token lies outside the palette of " + std::to_string(palette_.size(0)) + " colours");
  return palette_.to(tokens.device()).index({index});
}

}  // namespace igpt
