#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "igpt/ops/model_shape.h"
#include "igpt/ops/neighbourhood.h"
#include "src/ops/cpu/aligned_buffer.h"
#include "src/ops/cpu/packed_embeddings.h"

namespace igpt::ops::cpu {

struct BatchModel;
struct BatchState;

/// One decoding step for one kind of vector instructions.
struct BatchStep {
  size_t lanes;  ///< floats in a vector
  /// Reads the sums of the embeddings of token and position in state.h, and writes the logits; without logits only
  /// what later positions read in the cache.
  void (*run)(const BatchModel& model, BatchState& state, size_t images, size_t position, bool with_logits);
};

/// The step for the best instructions of this machine, and of this storage.
BatchStep best_batch_step(bool bf16);

/// Weights as the step reads them. A matrix is made of panels of 2 N outputs, N the lanes of a vector: (panel, input,
/// 2 N); keys are the same with positions for outputs, values with features. What is not there is zero.
///
/// A row of a panel is two vectors. As float32 they lie one after the other; as bfloat16 they share 32-bit words, the
/// first vector's number in the lower half, so that one load, a shift and a mask make both.
struct BatchModel {
  struct Layer {
    const float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias;  // (D)
    const float *qkv_bias, *out_bias, *up_bias, *down_bias;          // as the outputs of their matrices
    const float *qkv_weight, *out_weight, *up_weight, *down_weight;  // each third of qkv is padded by itself
    const float* conv;                                               // (taps, D)
  };

  explicit BatchModel(const ModelShape& model_shape) : shape(model_shape), conv_taps(neighbourhood(shape.conv_taps)) {}

  ModelShape shape;
  std::vector<Neighbour> conv_taps;
  std::optional<PackedEmbeddings> embeddings;
  BatchStep step;
  bool bf16;
  size_t embed_dim, num_heads, head_dim, length, num_vocab;
  size_t panel;                                         // 2 N
  size_t width, hidden_width, vocab_width, head_width;  // D, 4D, V and d padded to panels
  std::vector<AlignedBuffer> buffers;                   // of the weights
  std::vector<Layer> layers;
  const float *ln_f_weight, *ln_f_bias;  // (D)
  const float* head;                     // a matrix

  /// Where output or position `i` of a row of a panel lies, in numbers of the storage.
  size_t place(size_t i) const { return !bf16 ? i : i < panel / 2 ? 2 * i : 2 * (i - panel / 2) + 1; }
  /// In floats: bfloat16 takes half of them.
  size_t floats(size_t numbers) const { return bf16 ? numbers / 2 : numbers; }

  size_t key_numbers() const { return (length + panel - 1) / panel * panel * head_dim; }  // of a head
  size_t head_numbers() const { return key_numbers() + length * head_width; }
  size_t cache_numbers() const { return layers.size() * num_heads * head_numbers(); }  // of an image
};

/// Of several images: (image, width) each.
struct BatchState {
  AlignedBuffer cache;      // (image, layer, head), in each keys, then values
  AlignedBuffer convolved;  // (image, layer, position, width): what the convolutions have read
  AlignedBuffer h, qkv, attended, normalised, hidden, logits;
  AlignedBuffer scores;          // of one head against every key
  std::vector<int64_t> starts;   // (n): their start tokens
  std::vector<uint16_t> tokens;  // (image, S): read so far
  size_t images = 0;
};

/// Rounded to the nearest bfloat16, ties to even; its upper 16 bits.
inline uint16_t to_bf16(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

/// Stores a number where the storage of `model` has its `index`th.
inline void store_number(const BatchModel& model, float* storage, size_t index, float x) {
  if (model.bf16)
    reinterpret_cast<uint16_t*>(storage)[index] = to_bf16(x);
  else
    storage[index] = x;
}

}  // namespace igpt::ops::cpu
