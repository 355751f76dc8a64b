#pragma once

// What comes after attention in a block: output projection, residual, norm, MLP, residual. 9 D^2 multiply-adds and
// 4 D GELU for a token forward. The backward pass computes the hidden units again, 22 D^2 multiply-adds; hidden
// units come in chunks through shared memory.

#include "src/ops/cuda/block.h"
#include "src/ops/cuda/dense_tiles.cuh"

namespace igpt::ops::cuda {

constexpr int out_proj_mlp_forward_bytes(int embed) {
  const int tokens = tokens_of_tile(embed);
  return (3 * tile_floats(tokens, embed) + tile_floats(tokens, kHiddenChunk)) * 4;
}
constexpr int out_proj_mlp_backward_bytes(int embed) {
  const int tokens = tokens_of_tile(embed);
  return (5 * tile_floats(tokens, embed) + 2 * tile_floats(tokens, kHiddenChunk)) * 4;
}

template <int kEmbed>
SIMT_KERNEL(kDenseThreads, dense_blocks_of_sm<kEmbed>)
out_proj_mlp_forward_kernel(OutProjMlpForward in) {
  constexpr int kTokens = kTokensOfTile<kEmbed>;
  const int embed = kEmbed ? kEmbed : in.sizes.embed, hidden_units = 4 * embed;
  const int64_t first = int64_t{simt::block()} * kTokens;
  simt::SharedArena arena;
  const Tile x(arena, kTokens, embed, "x"), attended(arena, kTokens, embed, "attended"),
      normed(arena, kTokens, embed, "normed"), hidden(arena, kTokens, kHiddenChunk, "hidden");
  const OwnColumns<kTokens> own(embed, in.sizes.rms_norm);
  const auto add_to_x = [&](int token, int column, const Four& y) {
    const auto to = x[token] + column;
    store_four(to, load_four(to) + y);
  };
  if (in.part == AfterAttention::mlp) {
    own.load(x, in.mid, first, in.sizes.tokens);
    own.load(normed, in.convolved, first, in.sizes.tokens);
  } else {
    own.load(x, in.x, first, in.sizes.tokens);
    if (!in.sizes.pre_norm) {
      own.normalise(x);
      own.scale(x, x, in.weights.ln_1_weight, in.weights.ln_1_bias);
    }
    own.load(attended, in.attended, first, in.sizes.tokens);
    simt::sync_threads();
    multiply<kTokens>(attended, embed, {in.weights.out_weight, embed}, embed,
                      [&](int token, int column, const Four& y) {
                        add_to_x(token, column, y + load_four(in.weights.out_bias + column));
                      });
    simt::sync_threads();
    own.store(in.mid, x, first, in.sizes.tokens);
    own.each([&](int column) { store_four(normed[own.token] + column, load_four(x[own.token] + column)); });
    own.normalise(normed);
    own.scale(normed, normed, in.weights.ln_2_weight, in.weights.ln_2_bias);
  }
  if (in.part == AfterAttention::up_to_norm) {
    own.store(in.normed, normed, first, in.sizes.tokens);
    return;
  }
  for (int chunk = 0; chunk < hidden_units; chunk += kHiddenChunk) {
    const int units = hidden_units - chunk < kHiddenChunk ? hidden_units - chunk : kHiddenChunk;
    simt::sync_threads();
    multiply<kTokens>(normed, embed, {in.weights.up_weight + chunk * embed, embed}, units,
                      [&](int token, int column, const Four& y) {
                        const Four a = y + load_four(in.weights.up_bias + (chunk + column));
                        Four slope;
                        store_four(hidden[token] + column, gelu(a, in.sizes.quick_gelu, slope));
                      });
    simt::sync_threads();
    multiply<kTokens>(hidden, units, {in.weights.down_weight + chunk, hidden_units}, embed,
                      [&](int token, int column, const Four& y) {
                        add_to_x(token, column, chunk == 0 ? y + load_four(in.weights.down_bias + column) : y);
                      });
  }
  simt::sync_threads();
  own.store(in.out, x, first, in.sizes.tokens);
}

template <int kEmbed>
SIMT_KERNEL(kDenseThreads, dense_blocks_of_sm<kEmbed>)
out_proj_mlp_backward_kernel(OutProjMlpBackward in) {
  constexpr int kTokens = kTokensOfTile<kEmbed>;
  const int embed = kEmbed ? kEmbed : in.sizes.embed, hidden_units = 4 * embed;
  simt::SharedArena arena;
  const Tile normalised(arena, kTokens, embed, "normalised"), normed(arena, kTokens, embed, "normed"),
      d(arena, kTokens, embed, "d_out"), d_normed(arena, kTokens, embed, "d_normed"),
      attended(arena, kTokens, embed, "attended"), hidden(arena, kTokens, kHiddenChunk, "hidden"),
      d_hidden(arena, kTokens, kHiddenChunk, "d_hidden");
  const OwnColumns<kTokens> own(embed, in.sizes.rms_norm);
  const int64_t sums = simt::block() * in.sizes.parameters;
  for (int tile = 0; tile < in.sizes.tiles_of_part; ++tile) {
    const int64_t first = (int64_t{simt::block()} * in.sizes.tiles_of_part + tile) * kTokens;
    if (first >= in.sizes.tokens) break;
    own.load(d, in.d_out, first, in.sizes.tokens);
    float inverse_sigma = 0.0f;
    if (in.part == AfterAttention::mlp) {
      own.load(normed, in.convolved, first, in.sizes.tokens);
    } else {
      own.load(attended, in.attended, first, in.sizes.tokens);
      own.load(normalised, in.mid, first, in.sizes.tokens);
      inverse_sigma = own.normalise(normalised);
      if (in.part == AfterAttention::up_to_norm)
        own.load(d_normed, in.d_normed, first, in.sizes.tokens);
      else
        own.scale(normed, normalised, in.weights.ln_2_weight, in.weights.ln_2_bias);
    }
    simt::sync_threads();
    const int chunks_end = in.part == AfterAttention::up_to_norm ? 0 : hidden_units;
    if (chunks_end > 0) add_rows<kTokens>(d, embed, in.sums.down_bias + sums, tile == 0);
    for (int chunk = 0; chunk < chunks_end; chunk += kHiddenChunk) {
      const int units = hidden_units - chunk < kHiddenChunk ? hidden_units - chunk : kHiddenChunk;
      const Matrix up{in.weights.up_weight + chunk * embed, embed}, down{in.weights.down_weight + chunk, hidden_units};
      multiply<kTokens>(normed, embed, up, units, [&](int token, int column, const Four& y) {
        const Four a = y + load_four(in.weights.up_bias + (chunk + column));
        Four slope;
        store_four(hidden[token] + column, gelu(a, in.sizes.quick_gelu, slope));
        store_four(d_hidden[token] + column, slope);
      });
      // The patches are those of the product before: a thread multiplies by slopes that it wrote itself.
      multiply_back<kTokens>(d, embed, down, units, [&](int token, int column, const Four& y) {
        Four slope = load_four(d_hidden[token] + column);
#pragma unroll
        for (int k = 0; k < 4; ++k) slope.x[k] *= y.x[k];
        store_four(d_hidden[token] + column, slope);
      });
      simt::sync_threads();
      add_outer_product<kTokens>(d, embed, hidden, units, in.sums.down_weight + (sums + chunk), hidden_units,
                                 tile == 0);
      add_outer_product<kTokens>(d_hidden, units, normed, embed, in.sums.up_weight + (sums + chunk * embed), embed,
                                 tile == 0);
      add_rows<kTokens>(d_hidden, units, in.sums.up_bias + (sums + chunk), tile == 0);
      multiply_back<kTokens>(d_hidden, units, up, embed, [&](int token, int column, const Four& y) {
        const auto to = d_normed[token] + column;
        store_four(to, chunk == 0 ? y : load_four(to) + y);
      });
      simt::sync_threads();
    }
    if (in.part == AfterAttention::mlp) {
      own.store(in.d_convolved, d_normed, first, in.sizes.tokens);
      simt::sync_threads();
      continue;
    }
    add_norm_gradients<kTokens>(d_normed, normalised, embed, in.sizes.rms_norm, in.sums.ln_2_weight + sums,
                                in.sums.ln_2_bias + sums, tile == 0);
    own.normalise_backward(d_normed, normalised, in.weights.ln_2_weight, inverse_sigma, [&](int column, Four dx) {
      const auto to = d[own.token] + column;
      store_four(to, load_four(to) + dx);
    });
    own.store(in.d_mid, d, first, in.sizes.tokens);
    simt::sync_threads();
    add_rows<kTokens>(d, embed, in.sums.out_bias + sums, tile == 0);
    add_outer_product<kTokens>(d, embed, attended, embed, in.sums.out_weight + sums, embed, tile == 0);
    multiply_back<kTokens>(d, embed, {in.weights.out_weight, embed}, embed, [&](int token, int column, const Four& y) {
      if (first + token < in.sizes.tokens) store_four(in.d_attended + ((first + token) * embed + column), y);
    });
    simt::sync_threads();
  }
}

}  // namespace igpt::ops::cuda
