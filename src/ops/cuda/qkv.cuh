#pragma once

// What comes before attention in a block: its norm and the projection to queries, keys and values. 3 D^2 multiply-adds
// for a token forward, twice as many backward; q, k and v of a token are side by side, as attention reads them.

#include "src/ops/cuda/block.h"
#include "src/ops/cuda/dense_tiles.cuh"

namespace igpt::ops::cuda {

constexpr int qkv_forward_bytes(int embed) {
  const int tokens = tokens_of_tile(embed);
  return tile_floats(tokens, embed) * 4;
}
constexpr int qkv_backward_bytes(int embed) {
  const int tokens = tokens_of_tile(embed);
  return (3 * tile_floats(tokens, embed) + tile_floats(tokens, 3 * embed)) * 4;
}

template <int kEmbed>
SIMT_KERNEL(kDenseThreads, dense_blocks_of_sm<kEmbed>)
qkv_forward_kernel(QkvForward in) {
  constexpr int kTokens = kTokensOfTile<kEmbed>;
  const int embed = kEmbed ? kEmbed : in.sizes.embed;
  const int64_t first = int64_t{simt::block()} * kTokens;
  simt::SharedArena arena;
  const Tile normed(arena, kTokens, embed, "normed");
  const OwnColumns<kTokens> own(embed, in.sizes.rms_norm);
  own.load(normed, in.x, first, in.sizes.tokens);
  own.normalise(normed);
  own.scale(normed, normed, in.weights.ln_1_weight, in.weights.ln_1_bias);
  simt::sync_threads();
  multiply<kTokens>(normed, embed, {in.weights.in_weight, embed}, 3 * embed, [&](int token, int column, const Four& y) {
    if (first + token < in.sizes.tokens)
      store_four(in.qkv + ((first + token) * 3 * embed + column), y + load_four(in.weights.in_bias + column));
  });
}

template <int kEmbed>
SIMT_KERNEL(kDenseThreads, dense_blocks_of_sm<kEmbed>)
qkv_backward_kernel(QkvBackward in) {
  constexpr int kTokens = kTokensOfTile<kEmbed>;
  const int embed = kEmbed ? kEmbed : in.sizes.embed;
  simt::SharedArena arena;
  const Tile normalised(arena, kTokens, embed, "normalised"), normed(arena, kTokens, embed, "normed"),
      d_normed(arena, kTokens, embed, "d_normed"), d_qkv(arena, kTokens, 3 * embed, "d_qkv");
  const OwnColumns<kTokens> own(embed, in.sizes.rms_norm), own_of_qkv(3 * embed);
  const int64_t sums = simt::block() * in.sizes.parameters;
  for (int tile = 0; tile < in.sizes.tiles_of_part; ++tile) {
    const int64_t first = (int64_t{simt::block()} * in.sizes.tiles_of_part + tile) * kTokens;
    if (first >= in.sizes.tokens) break;
    const bool inside = first + own.token < in.sizes.tokens;
    own.load(normalised, in.x, first, in.sizes.tokens);
    const float inverse_sigma = own.normalise(normalised);
    own.scale(normed, normalised, in.weights.ln_1_weight, in.weights.ln_1_bias);
    own.load(d_normed, in.d_mid, first, in.sizes.pre_norm ? 0 : in.sizes.tokens);
    own_of_qkv.load(d_qkv, in.d_qkv, first, in.sizes.tokens);
    simt::sync_threads();
    add_rows<kTokens>(d_qkv, 3 * embed, in.sums.in_bias + sums, tile == 0);
    add_outer_product<kTokens>(d_qkv, 3 * embed, normed, embed, in.sums.in_weight + sums, embed, tile == 0);
    multiply_back<kTokens>(d_qkv, 3 * embed, {in.weights.in_weight, embed}, embed,
                           [&](int token, int column, const Four& y) {
                             const auto to = d_normed[token] + column;
                             store_four(to, load_four(to) + y);
                           });
    simt::sync_threads();
    add_norm_gradients<kTokens>(d_normed, normalised, embed, in.sizes.rms_norm, in.sums.ln_1_weight + sums,
                                in.sums.ln_1_bias + sums, tile == 0);
    own.normalise_backward(d_normed, normalised, in.weights.ln_1_weight, inverse_sigma, [&](int column, Four dx) {
      const int64_t at = (first + own.token) * embed + column;
      if (!inside) return;
      if (in.sizes.pre_norm) dx = dx + load_four(in.d_mid + at);
      store_four(in.dx + at, dx);
    });
    simt::sync_threads();
  }
}

}  // namespace igpt::ops::cuda
