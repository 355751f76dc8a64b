#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "igpt/ops/model_shape.h"
#include "igpt/ops/neighbourhood.h"
#include "src/ops/cpu/aligned_buffer.h"
#include "src/ops/cpu/packed_embeddings.h"

namespace igpt::ops::cpu {

/// One decoding step for one kind of vector instructions.
struct DecoderStep {
  size_t lanes;  ///< floats in a vector
  /// Reads h, the sum of the embeddings of token and position, and writes the logits in the scratch memory; without
  /// logits only what later positions read in the cache.
  void (*run)(const PackedModel& model, float* cache, float* scratch, size_t position, bool with_logits);
};

/// The step for the best instructions of this machine.
DecoderStep best_decoder_step();

/// Weights as the step reads them: matrices (inputs, outputs), so that the lanes are outputs; every vector and every
/// matrix padded with zeros to a multiple of `unit`.
struct PackedModel {
  static constexpr size_t kRowsAtOnce = 8;  // of a weight in a product

  struct Layer {
    const float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias;  // (D)
    const float *qkv_weight, *qkv_bias;    // (D, 3D), (3D): each third padded; 1/sqrt(d) and log2(e) are folded into q
    const float *out_weight, *out_bias;    // (D, D), (D)
    const float *up_weight, *up_bias;      // (D, 4D), (4D)
    const float *down_weight, *down_bias;  // (4D, D), (D)
    const float* conv;                     // (taps, D)
  };

  explicit PackedModel(const ModelShape& shape)
      : embed_dim(static_cast<size_t>(shape.embed_dim)),
        num_heads(static_cast<size_t>(shape.num_heads)),
        head_dim(static_cast<size_t>(shape.head_dim())),
        length(static_cast<size_t>(shape.sequence_length)),
        num_vocab(static_cast<size_t>(shape.num_vocab)),
        pre_norm(shape.pre_norm),
        final_norm(shape.final_norm),
        rms_norm(shape.rms_norm),
        quick_gelu(shape.quick_gelu),
        side(shape.side()),
        conv_taps(neighbourhood(shape.conv_taps)) {}

  DecoderStep step;
  size_t embed_dim, num_heads, head_dim, length, num_vocab;
  size_t unit;                              // of padding: whole vectors, and whole groups of rows in a product
  size_t width, hidden_width, vocab_width;  // D, 4D and V padded
  std::vector<AlignedBuffer> buffers;       // of the weights
  std::optional<PackedEmbeddings> embeddings;
  std::vector<Layer> layers;
  bool pre_norm, final_norm, rms_norm, quick_gelu;
  int64_t side;
  std::vector<Neighbour> conv_taps;
  const float *ln_f_weight, *ln_f_bias;  // (D)
  const float* head;                     // (D, V)

  size_t blocks() const { return (length + step.lanes - 1) / step.lanes; }  // of keys, a vector each
  /// The cache of a layer is (head), in each the keys (group of blocks, d, block, lane), then the values (block, d,
  /// lane): what a head reads lies in one piece, in the order in which it is read, so that the core fetches it ahead.
  static constexpr size_t kBlocksInGroup = 8;
  size_t key_floats() const {
    return (blocks() + kBlocksInGroup - 1) / kBlocksInGroup * kBlocksInGroup * head_dim * step.lanes;
  }
  size_t head_floats() const { return key_floats() + blocks() * head_dim * step.lanes; }
  size_t layer_floats() const {  ///< behind the heads what the layer's convolution has read (position, D)
    return num_heads * head_floats() + (conv_taps.empty() ? 0 : length * width);
  }
  size_t cache_floats() const { return layers.size() * layer_floats(); }
};

/// Places in the scratch memory of a step.
struct DecoderScratch {
  DecoderScratch(const PackedModel& model, float* memory)
      : h(memory),
        qkv(h + model.width),
        attended(qkv + 3 * model.width),
        normalised(attended + model.width),
        hidden(normalised + model.width),
        logits(hidden + model.hidden_width),
        scores(logits + model.vocab_width) {}
  static size_t floats(const PackedModel& model) {
    return 6 * model.width + model.hidden_width + model.vocab_width + model.blocks() * model.step.lanes;
  }

  float* h;  // the residual stream
  float *qkv, *attended, *normalised, *hidden, *logits;
  float* scores;  // of one head against every key
};

}  // namespace igpt::ops::cpu
