#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "igpt/ops/model_shape.h"

namespace igpt::ops::cpu {

struct BatchModel;

/// An Image GPT of any size drawn token by token on the CPU, several images at once in each thread, so that a weight
/// that is read from memory serves all of them. The logits of an image depend on that image alone, bit for bit. Vector
/// instructions are chosen for the machine when the decoder is made.
class BatchDecoder {
 public:
  /// `weights` (P): the flat buffer as ParameterTable has it, which is copied. `bf16`: the blocks' matrices and the
  /// keys and values are rounded to bfloat16, which halves the bytes that are read; sums stay float32. Throws
  /// igpt::Error where the number of weights is another.
  BatchDecoder(const ModelShape& shape, std::span<const float> weights, bool bf16);
  BatchDecoder(BatchDecoder&&) noexcept;
  BatchDecoder& operator=(BatchDecoder&&) noexcept;
  ~BatchDecoder();

  /// What one thread works on: the keys and values of up to `images` images.
  class State {
   public:
    State(State&&) noexcept;
    State& operator=(State&&) noexcept;
    ~State();

   private:
    friend class BatchDecoder;
    struct Memory;
    explicit State(std::unique_ptr<Memory> memory);
    std::unique_ptr<Memory> memory_;
  };
  State make_state(int64_t images) const;

  /// One position of n images: the logits (n, V) of the tokens at `position`, as ImageGPT::decode. `previous` (n) are
  /// those at position - 1; at position 0 the images' classes, which only a model with a start token for each class
  /// reads. Positions are decoded in order, each for the same n; going back to
  /// an earlier one is possible and forgets what came after it. Without logits (an empty span) only the keys and values
  /// are computed. Throws igpt::Error for a number of images, a position or a token outside state or model.
  void decode(State& state, std::span<const int64_t> previous, int64_t position, std::span<float> logits) const;

 private:
  std::unique_ptr<const BatchModel> model_;
};

}  // namespace igpt::ops::cpu
