#pragma once

#include <cstdint>
#include <vector>

#include "igpt/ops/model_shape.h"
#include "igpt/ops/neighbourhood.h"
#include "src/ops/cpu/aligned_buffer.h"
#include "src/ops/cpu/embedding_rows.h"

namespace igpt::ops::cpu {

/// An image as the kernels read it: its tokens (S), and its start token among those of the model.
struct TokenImage {
  const uint8_t* tokens;
  int64_t start = 0;
};

/// Sizes as the kernels see them. A tile is N neighbouring tokens, N the number of lanes; activations are stored as
/// [tile][row][N], one row for each feature. Rows are padded with zeros so that kernels work on whole blocks.
struct Layout {
  Layout(const ModelShape& shape, int lanes);

  ModelShape shape;
  int lanes;             ///< N
  int tiles;             ///< of an image: S / N, rounded up
  int embed;             ///< D
  int embed_rows;        ///< D, to a multiple of 8
  int embed_chunks;      ///< D in vectors of N
  int heads;             ///< H
  int head_rows;         ///< d, to 4, 8, 16 or 32
  int attention_rows;    ///< H * head_rows, to a multiple of 8
  int attention_chunks;  ///< in vectors of N
  int hidden_rows;       ///< 4 D, to a multiple of 8
  int vocab_rows;        ///< V, to a multiple of 8
  int pair_stride;       ///< floats of a token's k and v (or q and dO) of one head: 2 head_rows, at least N
  EmbeddingRows embedding;
  std::vector<int64_t> conv_taps;  ///< how many tokens before a position those that a convolution reads are
  int64_t reach;                   ///< the largest of them, to a multiple of N; 0: no convolution
  std::vector<float> inside;       ///< [tap][plane_stride]: 1 where the token that is read is in the image, else 0
  ParameterTable at;               ///< places in the flat buffers of weights and gradients

  /// Rows of the packed token embeddings: those of EmbeddingRows, then zeros for what is behind the image's end.
  int64_t token_rows() const { return embedding.rows() + 1; }
  int64_t padded_tokens() const { return int64_t{tiles} * lanes; }
  /// Of a feature of all tokens in a row, with `reach` zeros on both sides.
  int64_t plane_stride() const { return reach + padded_tokens() + reach; }
};

/// Cuts a buffer into pieces one after the other; with a null base it only counts.
class BufferSlicer {
 public:
  explicit BufferSlicer(float* base) : base_(base) {}
  float* take(int64_t count);
  int64_t used() const { return used_; }

 private:
  float* base_;
  int64_t used_ = 0;
};

/// Weights of a block, zeros where padded. `_t`: [input][output], to be read along the outputs by a forward product;
/// the others are [output][input]. The queries' rows of in_t and in_bias contain d^-1/2 log2(e), so that attention
/// needs no other factor and the exponential is one of base 2.
struct BlockWeights {
  float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias;  // [embed_rows]
  float *in_t, *in, *in_bias;                                // q, k, v: 3 attention_rows of embed_rows
  float *out_t, *out, *out_bias;                             // embed_rows of attention_rows
  float *up_t, *up, *up_bias;                                // mlp.0: hidden_rows of embed_rows
  float *down_t, *down, *down_bias;                          // mlp.2: embed_rows of hidden_rows
  float* conv;                                               // [tap][embed_rows]
};

struct PackedWeights {
  explicit PackedWeights(const Layout& layout);

  /// From the flat buffer of weights, whose clf_head is used where it is.
  void pack(const float* weights);

  const Layout& layout;
  std::vector<BlockWeights> blocks;
  AlignedBuffer buffer;
  float* tokens;                                           ///< [token_rows][embed_chunks * N]
  float* positions;                                        ///< [tile][embed_rows][N]
  float *ln_f_weight, *ln_f_bias;                          ///< [embed_rows], where it is applied
  float *head_t, *head;                                    ///< vocab_rows of embed_rows
  const float *clf_weight = nullptr, *clf_bias = nullptr;  ///< (C, D), (C); null: none

 private:
  void pack_embeddings(const float* weights);
  int64_t place(float* base);
};

/// Gradients of a block. Those of matrices are [chunk of the lanes' side][row][N], those of biases and norms [row][N]
/// with the N lanes still apart.
struct BlockGradients {
  float *ln_1_weight, *ln_1_bias, *ln_2_weight, *ln_2_bias;
  float *in, *in_bias;        // lanes: inputs
  float *out, *out_bias;      // lanes: inputs
  float *up, *up_bias;        // lanes: inputs
  float *down_t, *down_bias;  // rows: inputs (hidden units), lanes: outputs
  float* conv;                // [tap * embed_rows + row][N]
};

/// Sum of the gradients of a group of images.
struct Gradients {
  explicit Gradients(const Layout& layout);

  void clear();
  void add(const Gradients& other);
  void add_to(const float* weights, float* gradients) const;  ///< to the flat buffer, beside that of the weights

  const Layout& layout;
  std::vector<BlockGradients> blocks;
  AlignedBuffer buffer;
  float* tokens;                   ///< as PackedWeights::tokens; the last row is not used
  float* positions;                ///< [tile][embed_rows][N]
  float *ln_f_weight, *ln_f_bias;  ///< [row][N]
  float* head;                     ///< [chunk of D][vocab_rows][N]
  float *clf_weight, *clf_bias;

 private:
  void add_embeddings_to(const float* weights, float* gradients) const;
  int64_t place(float* base);
};

/// What the backward pass needs of a block's forward pass; q, k, v and the hidden units are computed again.
struct BlockActivations {
  float *normalised_1, *normalised_2;        // [tile][embed_rows][N] before gain and bias
  float *inverse_sigma_1, *inverse_sigma_2;  // [tile][N]
  float* attended;                           // [tile][attention_rows][N]
  float* log_sum_exp;                        // [tile][head][N], base 2
};

/// Everything that a thread needs for one image.
struct Workspace {
  explicit Workspace(const Layout& layout);

  static int64_t floats(const Layout& layout);

  const Layout& layout;
  std::vector<BlockActivations> blocks;
  AlignedBuffer buffer;
  float *x, *x_2;                         ///< [tile][embed_rows][N]: the residual stream, then its gradient
  float *normalised_f, *inverse_sigma_f;  ///< [tile][embed_rows][N], [tile][N]: of ln_f
  float *q, *dq, *d_attended;             ///< [tile][attention_rows][N]
  float* delta;                           ///< [tile][head][N]: sum over the features of attended * d_attended
  float* kv;                              ///< [head][token][pair_stride]
  float *q_do, *dkv;                      ///< the same, see attention-inl.h
  float *normed, *hidden, *d_hidden, *pairs, *d_in, *logits;  ///< scratch of one tile
  float* class_logits;                                        ///< (C)
  float *plane, *d_plane;  ///< [embed_rows][plane_stride]: what a convolution reads, and the gradient of its output

 private:
  int64_t place(float* base);
};

}  // namespace igpt::ops::cpu
