#pragma once

// What the kernels around attention are made of. A block holds a tile of tokens in shared memory, a row of features
// each, and multiplies it by weights that are read from global memory (the first-level cache keeps them). A thread
// computes patches of four tokens by four columns: 64 multiply-adds for 8 loads of 16 bytes.

#include <type_traits>

#include "src/ops/cuda/kernel_sizes.h"
#include "src/ops/cuda/simt.h"

namespace igpt::ops::cuda {

constexpr int kDenseThreads = 128;
constexpr int kHiddenChunk = 64;  // hidden units of the MLP that are in shared memory at a time
constexpr float kNormEps = 1e-5f;

template <int kEmbed>
constexpr int kTokensOfTile = tokens_of_tile(kEmbed);

/// Calls call(std::integral_constant<int, kEmbed>) with the embedding dimension D that a kernel is compiled for: 0
/// where only the launch knows it.
template <class Call>
auto with_embed(int embed, Call call) {
  if (embed == 16) return call(std::integral_constant<int, 16>());
  if (embed == 32) return call(std::integral_constant<int, 32>());
  return call(std::integral_constant<int, 0>());
}

/// Blocks whose registers an SM has to hold: fewer where patches of wider rows would spill.
template <int kEmbed>
constexpr int dense_blocks_of_sm = kEmbed == 16 ? 4 : 3;

/// Floats between the rows of a tile: 16 bytes of eight neighbouring rows lie in different banks.
constexpr int kRowPadding = 4;
SIMT_ANYWHERE constexpr int tile_floats(int tokens, int columns) {
  return tokens * ((columns + 3) / 4 * 4 + kRowPadding);
}

/// A row of features for each token, in shared memory.
struct Tile {
  simt::ptr<float> first;
  int stride;

  SIMT_DEVICE Tile(simt::SharedArena& arena, int tokens, int columns, const char* name)
      : first(arena.take<float>(tile_floats(tokens, columns), name)), stride((columns + 3) / 4 * 4 + kRowPadding) {}
  SIMT_DEVICE simt::ptr<float> operator[](int row) const { return first + row * stride; }
};

/// A weight matrix in global memory, (outputs, inputs) or some columns of it.
struct Matrix {
  simt::ptr<const float> first;
  int stride;

  SIMT_DEVICE simt::ptr<const float> operator[](int row) const { return first + row * stride; }
};

struct Four {
  float x[4];
};
SIMT_DEVICE Four load_four(simt::ptr<const float> from) {
  const float4 four = simt::load_as<float4>(from);
  return {{four.x, four.y, four.z, four.w}};
}
SIMT_DEVICE void store_four(simt::ptr<float> to, const Four& four) {
  simt::store_as(to, float4{four.x[0], four.x[1], four.x[2], four.x[3]});
}
SIMT_DEVICE Four operator+(const Four& a, const Four& b) {
  return {{a.x[0] + b.x[0], a.x[1] + b.x[1], a.x[2] + b.x[2], a.x[3] + b.x[3]}};
}
SIMT_DEVICE void add_product(Four& sum, const Four& a, const Four& b) {
#pragma unroll
  for (int i = 0; i < 4; ++i) sum.x[i] = fmaf(a.x[i], b.x[i], sum.x[i]);
}

/// The distribution function of the standard normal and its density: GELU (Hendrycks and Gimpel 2016) is x cdf(x).
struct Normal {
  float cdf, density;

  SIMT_DEVICE explicit Normal(float x)
      : cdf(0.5f * (1.0f + erff(x * 0.70710678f))), density(0.39894228f * simt::exp2_approx(x * x * -0.72134752f)) {}
};

/// The same of the logistic distribution that resembles it, sigmoid(1.702 x): quick GELU is x times that.
struct Logistic {
  float cdf, density;

  // Where the exponential is as large as it can be, its reciprocal is 0 beside any x.
  SIMT_DEVICE explicit Logistic(float x)
      : cdf(simt::reciprocal(1.0f + simt::exp2_approx(fminf(x * (-1.702f * kLog2E), 100.0f)))),
        density(1.702f * cdf * (1.0f - cdf)) {}
};

template <class Distribution>
SIMT_DEVICE Four gelu(const Four& x, Four& slope) {
  Four y;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const Distribution at(x.x[k]);
    y.x[k] = x.x[k] * at.cdf;
    slope.x[k] = fmaf(x.x[k], at.density, at.cdf);
  }
  return y;
}
/// GELU of x, or quick GELU, and its slope.
SIMT_DEVICE Four gelu(const Four& x, bool quick, Four& slope) {
  return quick ? gelu<Logistic>(x, slope) : gelu<Normal>(x, slope);
}

/// A sum over the tiles of a block, begun by its first tile.
SIMT_DEVICE void add_to_sum(simt::ptr<float> sum, float term, bool first) {
  *sum = first ? term : *sum + term;
}

/// The patches of a product with so many columns are dealt to the threads in turn, the same ones to the same threads in
/// every product of as many columns. A patch has tokens `token`, `token` + kGroups, ... and columns `column` to + 3.
template <int kTokens>
struct Patches {
  static constexpr int kGroups = kTokens / 4;
  int n = simt::thread(), count;

  SIMT_DEVICE explicit Patches(int columns) : count((columns + 3) / 4 * kGroups) {}
  SIMT_DEVICE bool more() const { return n < count; }
  SIMT_DEVICE void next() { n += kDenseThreads; }
  SIMT_DEVICE int token(int t) const { return n % kGroups + t * kGroups; }
  SIMT_DEVICE int column() const { return n / kGroups * 4; }
};

/// store(token, first column, four columns) of x (tokens, depth) times `weight`: with kBack the matrix itself (depth,
/// columns), else the transposed one (columns, depth). Columns of x beyond the last are zeros; columns of the result
/// beyond the last are arbitrary.
template <int kTokens, bool kBack, class Store>
SIMT_DEVICE void multiply(const Tile& x, int depth, const Matrix& weight, int columns, Store store) {
  for (Patches<kTokens> patch(columns); patch.more(); patch.next()) {
    float sum[4][4] = {};
#pragma unroll 2
    for (int i = 0; i < depth; i += 4) {
      Four a[4], b[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) a[k] = load_four(x[patch.token(k)] + i);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int rows = kBack ? depth : columns, row = (kBack ? i : patch.column()) + k;
        b[k] = load_four(weight[row < rows ? row : rows - 1] + (kBack ? patch.column() : i));
      }
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int t = 0; t < 4; ++t)
#pragma unroll
          for (int c = 0; c < 4; ++c) sum[t][c] = fmaf(a[t].x[k], kBack ? b[k].x[c] : b[c].x[k], sum[t][c]);
    }
#pragma unroll
    for (int t = 0; t < 4; ++t)
      store(patch.token(t), patch.column(), Four{{sum[t][0], sum[t][1], sum[t][2], sum[t][3]}});
  }
}

/// x (tokens, inputs) times the transposed `weight` (outputs, inputs).
template <int kTokens, class Store>
SIMT_DEVICE void multiply(const Tile& x, int inputs, const Matrix& weight, int outputs, Store store) {
  multiply<kTokens, false>(x, inputs, weight, outputs, store);
}
/// The backward pass of that product: dy (tokens, outputs) times `weight` (outputs, inputs).
template <int kTokens, class Store>
SIMT_DEVICE void multiply_back(const Tile& dy, int outputs, const Matrix& weight, int inputs, Store store) {
  multiply<kTokens, true>(dy, outputs, weight, inputs, store);
}

/// sums (outputs, inputs; rows `stride` apart) += dy^T x over the tile's tokens: a weight's gradient.
template <int kTokens>
SIMT_DEVICE void add_outer_product(const Tile& dy, int outputs, const Tile& x, int inputs, simt::ptr<float> sums,
                                   int stride, bool first) {
  const int across = inputs / 4;
  for (int n = simt::thread(); n < (outputs + 3) / 4 * across; n += kDenseThreads) {
    const int row = n / across * 4, column = n % across * 4;
    float sum[4][4] = {};
#pragma unroll 4
    for (int t = 0; t < kTokens; ++t) {
      const Four a = load_four(dy[t] + row), b = load_four(x[t] + column);
#pragma unroll
      for (int o = 0; o < 4; ++o)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[o][i] = fmaf(a.x[o], b.x[i], sum[o][i]);
    }
#pragma unroll
    for (int o = 0; o < 4; ++o) {
      if (row + o >= outputs) continue;
      const simt::ptr<float> to = sums + ((row + o) * stride + column);
      Four four{{sum[o][0], sum[o][1], sum[o][2], sum[o][3]}};
      if (!first) four = load_four(to) + four;
      store_four(to, four);
    }
  }
}

/// sums (columns) += the tile's rows: a bias's gradient.
template <int kTokens>
SIMT_DEVICE void add_rows(const Tile& dy, int columns, simt::ptr<float> sums, bool first) {
  for (int column = simt::thread(); column < columns; column += kDenseThreads) {
    float sum = 0.0f;
#pragma unroll 8
    for (int t = 0; t < kTokens; ++t) sum += dy[t][column];
    add_to_sum(sums + column, sum, first);
  }
}

/// Gradients of a norm's gain and, but for RMSNorm, bias from that of its output, with its normalised input.
template <int kTokens>
SIMT_DEVICE void add_norm_gradients(const Tile& dy, const Tile& normalised, int columns, bool rms_norm,
                                    simt::ptr<float> weight_sums, simt::ptr<float> bias_sums, bool first) {
  for (int column = simt::thread(); column < columns; column += kDenseThreads) {
    float weight_sum = 0.0f, bias_sum = 0.0f;
#pragma unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const float d = dy[t][column];
      weight_sum = fmaf(d, normalised[t][column], weight_sum);
      bias_sum += d;
    }
    add_to_sum(weight_sums + column, weight_sum, first);
    if (!rms_norm) add_to_sum(bias_sums + column, bias_sum, first);
  }
}

/// Work row by row: neighbouring lanes share a token, and each has every kLanes-th four of its columns. What a thread
/// wrote in this way it may read in this way without a barrier.
template <int kTokens>
struct OwnColumns {
  static constexpr int kLanes = kDenseThreads / kTokens;
  static_assert(kLanes == 2 || kLanes == 4);
  int token = simt::thread() / kLanes, columns;
  bool rms_norm;  // the norms are RMSNorm: the mean counts as zero, and there is no bias
  float inverse_columns;

  SIMT_DEVICE explicit OwnColumns(int all_columns, bool is_rms_norm = false)
      : columns(all_columns),
        rms_norm(is_rms_norm),
        inverse_columns(simt::reciprocal(static_cast<float>(all_columns))) {}

  template <class Function>
  SIMT_DEVICE void each(Function function) const {
#pragma unroll 4
    for (int column = simt::thread() % kLanes * 4; column < columns; column += kLanes * 4) function(column);
  }
  static SIMT_DEVICE float sum_of_lanes(float x) {
#pragma unroll
    for (int mask = 1; mask < kLanes; mask *= 2) x += simt::shuffle_xor(x, mask);
    return x;
  }
  static SIMT_DEVICE float largest_of_lanes(float x) {
#pragma unroll
    for (int mask = 1; mask < kLanes; mask *= 2) x = fmaxf(x, simt::shuffle_xor(x, mask));
    return x;
  }

  /// Rows [first, first + kTokens) of `from` (tokens, columns); zeros beyond the last.
  SIMT_DEVICE void load(const Tile& to, simt::ptr<const float> from, int64_t first, int64_t tokens) const {
    const bool inside = first + token < tokens;
    each([&](int column) {
      store_four(to[token] + column, inside ? load_four(from + ((first + token) * columns + column)) : Four{});
    });
  }
  SIMT_DEVICE void store(simt::ptr<float> to, const Tile& from, int64_t first, int64_t tokens) const {
    if (first + token >= tokens) return;
    each([&](int column) { store_four(to + ((first + token) * columns + column), load_four(from[token] + column)); });
  }

  /// The norm without gain and bias, in place; returns 1 / sigma of the token.
  SIMT_DEVICE float normalise(const Tile& x) const {
    float sum = 0.0f, squares = 0.0f;
    each([&](int column) {
      const Four four = load_four(x[token] + column);
      sum += four.x[0] + four.x[1] + (four.x[2] + four.x[3]);
    });
    const float mean = rms_norm ? 0.0f : sum_of_lanes(sum) * inverse_columns;
    each([&](int column) {
      const Four four = load_four(x[token] + column);
#pragma unroll
      for (int k = 0; k < 4; ++k) squares = fmaf(four.x[k] - mean, four.x[k] - mean, squares);
    });
    const float inverse_sigma = simt::inverse_sqrt(fmaf(sum_of_lanes(squares), inverse_columns, kNormEps));
    each([&](int column) {
      Four four = load_four(x[token] + column);
#pragma unroll
      for (int k = 0; k < 4; ++k) four.x[k] = (four.x[k] - mean) * inverse_sigma;
      store_four(x[token] + column, four);
    });
    return inverse_sigma;
  }

  /// The norm's gain and bias.
  SIMT_DEVICE void scale(const Tile& to, const Tile& normalised, simt::ptr<const float> weight,
                         simt::ptr<const float> bias) const {
    each([&](int column) {
      Four four = load_four(normalised[token] + column);
      const Four gain = load_four(weight + column), shift = rms_norm ? Four{} : load_four(bias + column);
#pragma unroll
      for (int k = 0; k < 4; ++k) four.x[k] = fmaf(four.x[k], gain.x[k], shift.x[k]);
      store_four(to[token] + column, four);
    });
  }

  /// store(column, four): the gradient of the norm's input from `dy`, that of its output.
  template <class Store>
  SIMT_DEVICE void normalise_backward(const Tile& dy, const Tile& normalised, simt::ptr<const float> weight,
                                      float inverse_sigma, Store store) const {
    float sum = 0.0f, product = 0.0f;
    each([&](int column) {
      const Four d = load_four(dy[token] + column), gain = load_four(weight + column),
                 x = load_four(normalised[token] + column);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        sum = fmaf(d.x[k], gain.x[k], sum);
        product = fmaf(d.x[k] * gain.x[k], x.x[k], product);
      }
    });
    const float mean = rms_norm ? 0.0f : sum_of_lanes(sum) * inverse_columns;
    const float correlation = sum_of_lanes(product) * inverse_columns;
    each([&](int column) {
      const Four d = load_four(dy[token] + column), gain = load_four(weight + column),
                 x = load_four(normalised[token] + column);
      Four dx;
#pragma unroll
      for (int k = 0; k < 4; ++k) dx.x[k] = inverse_sigma * (fmaf(d.x[k], gain.x[k], -mean) - x.x[k] * correlation);
      store(column, dx);
    });
  }
};

}  // namespace igpt::ops::cuda
