#pragma once

#include "igpt/libtorch.h"

namespace igpt {

struct QuantizerOptions {
  int64_t num_vocab = 16;  ///< V
  torch::Tensor palette;   ///< (V, C) uint8, C 1 (grey) or 3 (RGB); empty: V evenly spaced greys, 0 to 255
};

/// Palette indices <-> pixels.
class QuantizerImpl : public torch::nn::Cloneable<QuantizerImpl> {
 public:
  /// Throws igpt::UsageError on a palette of another shape or dtype.
  explicit QuantizerImpl(QuantizerOptions options = {});
  void reset() override;

  /// Nearest colour of each pixel (Chen et al. 2020, section 3.1); for the palette of 16 greys byte / 17 rounded down,
  /// as the original has it. `pixels` (..., C) uint8 -> (...) int64 in [0, V). Throws igpt::InputError on another
  /// shape.
  torch::Tensor encode(const torch::Tensor& pixels) const;

  /// Tokens (...) of any integer dtype -> pixels (..., C) uint8. Throws igpt::InputError on a token outside [0, V).
  torch::Tensor decode(const torch::Tensor& tokens) const;

  const torch::Tensor& palette() const { return palette_; }  ///< (V, C) uint8

 private:
  QuantizerOptions options_;
  torch::Tensor palette_;
  bool original_greys_ = false;  // the 16 greys, which round down
};
TORCH_MODULE(Quantizer);

}  // namespace igpt
