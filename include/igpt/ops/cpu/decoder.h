#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "igpt/ops/model_shape.h"

namespace igpt::ops::cpu {

struct PackedModel;

/// An Image GPT drawn token by token on the CPU, for small models: one image at a time in each thread, its keys and
/// values in that core's cache. Vector instructions are chosen for the machine when the decoder is made.
class Decoder {
 public:
  /// `weights` (P): the flat buffer as ParameterTable has it, which is copied. Throws igpt::Error where supports(shape)
  /// is false or the number of weights is another.
  Decoder(const ModelShape& shape, std::span<const float> weights);
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;
  ~Decoder();

  /// What one thread works on: the keys and values of one image (2 * num_layers * embed_dim * S floats). It can be used
  /// for one image after the other.
  class State {
   public:
    State(State&&) noexcept;
    State& operator=(State&&) noexcept;
    ~State();

   private:
    friend class Decoder;
    struct Memory;
    explicit State(std::unique_ptr<Memory> memory);
    std::unique_ptr<Memory> memory_;
  };
  State make_state() const;

  /// One position of one image: the logits (V) of the token at `position`, as ImageGPT::decode. `previous` is the token
  /// at position - 1; at position 0 the image's class, which only a model with a start token for each class reads.
  /// Positions are decoded in order; going back to an earlier one is possible and forgets what came after it. Without
  /// logits (an empty span) only the keys and values are computed. Throws igpt::Error for a position or token outside
  /// the model.
  void decode(State& state, int64_t previous, int64_t position, std::span<float> logits) const;

 private:
  std::unique_ptr<const PackedModel> model_;
};

}  // namespace igpt::ops::cpu
