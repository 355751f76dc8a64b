#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace igpt::ops {

/// The sizes of an Image GPT, and the properties on which its modules and kernels branch. An architecture is a named
/// set of these properties (igpt/model/image_gpt_options.h).
struct ModelShape {
  int64_t embed_dim = 16;         ///< D
  int64_t num_heads = 2;          ///< H, divides D
  int64_t num_layers = 8;         ///< L
  int64_t sequence_length = 784;  ///< S
  int64_t num_vocab = 16;         ///< V
  int64_t num_classes = 10;       ///< C
  /// K. Above 0, a position of the square image is embedded as its row, its column and the K nearest pixels before it,
  /// each of which has a table of its own (igpt/ops/neighbourhood.h). 0: as its place in the sequence and the token
  /// before it.
  int64_t neighbours = 0;
  bool pre_norm = false;    ///< The residual branch continues from the stream before ln_1 (GPT-2), not after it.
  bool final_norm = false;  ///< ln_f is applied before the heads.
  /// Norms neither subtract the mean nor shift: x / sqrt(mean(x^2) + 1e-5) * gain (Zhang and Sennrich 2019).
  bool rms_norm = false;
  bool quick_gelu = false;      ///< The hidden units are x sigmoid(1.702 x), not x times the normal distribution of x.
  bool classifier_bias = true;  ///< The classifier's head has a bias.
  /// Each class has a start token: sos is (C, D). It stands before the first token or, with neighbours, in the place of
  /// the pixel on its left.
  bool conditional = false;
  /// Initial values are those of Chen et al. 2020 (their code), not PyTorch's.
  bool paper_initial_values = false;
  /// R. Above 0, the neighbours' tables are products: that of neighbour k is the tokens' table (V + 1, R) times its
  /// projection (R, D). 0: each is a parameter of its own.
  int64_t table_rank = 0;
  /// M. Above 0, the MLP of a block reads ln_2's output convolved over the image: to the features of a position are
  /// added, each times a gain, those of the M nearest pixels before it (igpt/ops/neighbourhood.h), a causal depth-wise
  /// convolution. 0: it reads ln_2's output.
  int64_t conv_taps = 0;

  int64_t head_dim() const { return embed_dim / num_heads; }
  /// Positions are embedded as rows and columns of a plane, with their neighbours.
  bool is_plane() const { return neighbours > 0; }
  int64_t start_tokens() const { return conditional ? num_classes : is_plane() ? 0 : 1; }
  int64_t side() const {  ///< of a square image
    return static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(sequence_length))));
  }
  bool operator==(const ModelShape& other) const {  // C++17 for nvcc
    const auto members = [](const ModelShape& s) {
      return std::tuple(s.embed_dim, s.num_heads, s.num_layers, s.sequence_length, s.num_vocab, s.num_classes,
                        s.neighbours, s.pre_norm, s.final_norm, s.rms_norm, s.quick_gelu, s.classifier_bias,
                        s.conditional, s.paper_initial_values, s.table_rank, s.conv_taps);
    };
    return members(*this) == members(other);
  }
};

/// A T for each parameter of a block: an offset, a pointer.
template <class T>
struct BlockParameters {
  T ln_1_weight{}, ln_1_bias{}, ln_2_weight{}, ln_2_bias{};  ///< (D); no biases with rms_norm
  T in_weight{}, in_bias{};                                  ///< (3D, D), (3D): q, k, v
  T out_weight{}, out_bias{};                                ///< (D, D), (D)
  T up_weight{}, up_bias{};                                  ///< (4D, D), (4D): mlp.0
  T down_weight{}, down_bias{};                              ///< (D, 4D), (D): mlp.2
  T conv_weight{};                                           ///< (M, D); only with conv_taps
};

/// The names, sizes and order of a block's parameters. Calls visit(name, member, rows, columns) for each; a vector has
/// 0 columns.
template <class T, class Visit>
void for_each_parameter(BlockParameters<T>& block, const ModelShape& s, const Visit& visit) {
  const int64_t d = s.embed_dim;
  visit("ln_1.weight", block.ln_1_weight, d, 0);
  if (!s.rms_norm) visit("ln_1.bias", block.ln_1_bias, d, 0);
  visit("ln_2.weight", block.ln_2_weight, d, 0);
  if (!s.rms_norm) visit("ln_2.bias", block.ln_2_bias, d, 0);
  visit("attn.in_proj_weight", block.in_weight, 3 * d, d);
  visit("attn.in_proj_bias", block.in_bias, 3 * d, 0);
  visit("attn.out_proj.weight", block.out_weight, d, d);
  visit("attn.out_proj.bias", block.out_bias, d, 0);
  visit("mlp.0.weight", block.up_weight, 4 * d, d);
  visit("mlp.0.bias", block.up_bias, 4 * d, 0);
  visit("mlp.2.weight", block.down_weight, d, 4 * d);
  visit("mlp.2.bias", block.down_bias, d, 0);
  if (s.conv_taps > 0) visit("conv.weight", block.conv_weight, s.conv_taps, d);
}

/// Pointers to a block's parameters, which lie one after the other from `first` on; null to those that it lacks. A
/// Pointer is what a T* can be assigned to.
template <class T, class Pointer = T*>
BlockParameters<Pointer> block_parameters(T* first, const ModelShape& shape) {
  BlockParameters<Pointer> block;
  const auto place = [&](const char*, Pointer& member, int64_t rows, int64_t columns) {
    member = first;
    first += rows * (columns > 0 ? columns : 1);
  };
  for_each_parameter(block, shape, place);
  return block;
}

struct Parameter {
  std::string name;  ///< in the state dict, without `gpt.`
  std::vector<int64_t> sizes;
  int64_t offset = 0;  ///< of its first number in the flat buffer

  int64_t count() const {
    int64_t product = 1;
    for (const int64_t size : sizes) product *= size;
    return product;
  }
};

/// A matrix in the flat buffer, row by row.
struct Matrix {
  int64_t offset, rows, columns;

  int64_t count() const { return rows * columns; }
};

/// Of `parameters`, those that consist of `matrices`, and the others. Everything in the order of the flat buffer.
inline std::pair<std::vector<Parameter>, std::vector<Parameter>> split_by_matrices(
    const std::vector<Parameter>& parameters, const std::vector<Matrix>& matrices) {
  std::pair<std::vector<Parameter>, std::vector<Parameter>> result;
  auto matrix = matrices.begin();
  for (const Parameter& parameter : parameters) {
    while (matrix != matrices.end() && matrix->offset < parameter.offset) ++matrix;
    const bool is_matrix = matrix != matrices.end() && matrix->offset == parameter.offset;
    (is_matrix ? result.first : result.second).push_back(parameter);
  }
  return result;
}

/// The parameters of a model: their names, sizes, and places in the flat buffer (P) that holds them one after the
/// other. Modules, checkpoints, optimizers and kernels take the order from here.
struct ParameterTable {
  std::vector<Parameter> parameters;  ///< in the order of the flat buffer
  int64_t count = 0;                  ///< P

  static constexpr int64_t kNone = -1;  ///< the offset of what a model lacks

  // Offsets in the flat buffer.
  int64_t sos =
      kNone;  ///< (D), or (C, D) where each class has one. Without neighbours it lies just before token_embeddings.
  int64_t projections = kNone;  ///< (K, R, D): of the neighbours, with table_rank
  /// (V, D); with neighbours (K, V + 1, D), the last row for what is outside the image; with table_rank (V + 1, R)
  int64_t token_embeddings = 0;
  int64_t position_embeddings = 0;  ///< (S, D); with neighbours (2, side, D): rows, columns
  std::vector<BlockParameters<int64_t>> blocks;
  std::vector<Matrix> matrices;                ///< the blocks' weights without biases and gains; q, k and v one by one
  int64_t ln_f_weight = 0, ln_f_bias = kNone;  ///< (D); there also where ln_f is not applied
  int64_t head = 0;                            ///< (V, D)
  int64_t clf_weight = 0, clf_bias = kNone;    ///< (C, D), (C)

  explicit ParameterTable(const ModelShape& s) {
    const int64_t d = s.embed_dim;
    if (s.conditional)
      sos = add("sos", {s.num_classes, d});
    else if (s.start_tokens() > 0)
      sos = add("sos", {d});
    if (s.neighbours > 0) {
      if (s.table_rank > 0) projections = add("neighbour_projections", {s.neighbours, s.table_rank, d});
      token_embeddings = s.table_rank > 0 ? add("token_embeddings.weight", {s.num_vocab + 1, s.table_rank})
                                          : add("token_embeddings.weight", {s.neighbours * (s.num_vocab + 1), d});
      position_embeddings = add("row_embeddings.weight", {s.side(), d});
      add("column_embeddings.weight", {s.side(), d});
    } else {
      token_embeddings = add("token_embeddings.weight", {s.num_vocab, d});
      position_embeddings = add("position_embeddings.weight", {s.sequence_length, d});
    }
    blocks.resize(static_cast<size_t>(s.num_layers));
    for (size_t i = 0; i < blocks.size(); ++i) {
      auto& block = blocks[i];
      block.ln_1_bias = block.ln_2_bias = block.conv_weight = kNone;
      const auto place = [&](const char* name, int64_t& offset, int64_t rows, int64_t columns) {
        offset = add("layers." + std::to_string(i) + "." + name,
                     columns > 0 ? std::vector<int64_t>{rows, columns} : std::vector<int64_t>{rows});
      };
      for_each_parameter(block, s, place);
      for (int64_t part = 0; part < 3; ++part) matrices.push_back({block.in_weight + part * d * d, d, d});
      matrices.push_back({block.out_weight, d, d});
      matrices.push_back({block.up_weight, 4 * d, d});
      matrices.push_back({block.down_weight, d, 4 * d});
    }
    ln_f_weight = add("ln_f.weight", {d});
    if (!s.rms_norm) ln_f_bias = add("ln_f.bias", {d});
    head = add("head.weight", {s.num_vocab, d});
    clf_weight = add("clf_head.weight", {s.num_classes, d});
    if (s.classifier_bias) clf_bias = add("clf_head.bias", {s.num_classes});
  }

  /// Floats of one block.
  int64_t block_count() const {
    return (ln_f_weight - blocks.front().ln_1_weight) / static_cast<int64_t>(blocks.size());
  }

 private:
  int64_t add(std::string name, std::vector<int64_t> sizes) {
    parameters.push_back({std::move(name), std::move(sizes), count});
    return std::exchange(count, count + parameters.back().count());
  }
};

}  // namespace igpt::ops
