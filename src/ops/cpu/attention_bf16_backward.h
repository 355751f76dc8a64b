#pragma once

#include "src/ops/cpu/layout.h"
#include "src/ops/cpu/tile_operands.h"

#if IGPT_HAVE_TILES

#include <cstring>

namespace igpt::ops::cpu {

/// What attention's backward pass reads and writes of one head of an image; see Workspace for the shapes.
struct HeadOfImageBackward {
  const float *q, *d_attended, *kv, *q_do, *log_sum_exp, *delta;
  float *dq, *dkv;
  int64_t tile_floats, sum_floats;  // from one tile to the next: of q, d_attended and dq; of log_sum_exp and delta
  int64_t token_floats;             // from one token to the next: in kv, q_do and dkv
  int tiles;
};

IGPT_TILES_BEGIN

/// Gradients of one head's q, k and v: 32 keys after the other, each with 32 queries after the other. Weights come from
/// the log-sum-exp, transposed (keys down the rows), as do their gradients dS = P (dO v - delta).
template <class Tiles, int kHead>
class Bf16Backward {
  using Split = SplitProduct<kHead>;
  static constexpr bool kInterleaved = kHead < 16;  // q and dO, and dk and dv, in a token's row
  using KeyLanes = Lanes<0, 1>;
  using ValueLanes = Lanes<kInterleaved ? kHead : 0, 1>;
  using QueryLanes = Lanes<0, kInterleaved ? 2 : 1>;
  using OutLanes = Lanes<kInterleaved ? 1 : 0, kInterleaved ? 2 : 1>;
  static constexpr int kSecondHalf = kInterleaved ? 0 : 16;  // of a token's row: where the vector with v or dO begins

 public:
  static int64_t scratch_floats(int tiles) { return int64_t{(tiles + 1) / 2} * (4 * Split::kTiles + 4) * 256; }

  IGPT_TILES_INLINE Bf16Backward(Tiles& tiles, const HeadOfImageBackward& head, float* scratch)
      : tiles_(tiles),
        head_(head),
        blocks_((head.tiles + 1) / 2),
        queries_(reinterpret_cast<TileRow*>(scratch)),
        outs_(queries_ + int64_t{blocks_} * 2 * Split::kTiles * 16),
        query_pairs_(outs_ + int64_t{blocks_} * 2 * Split::kTiles * 16),
        out_pairs_(query_pairs_ + int64_t{blocks_} * 16),
        dq_(reinterpret_cast<FloatRow*>(out_pairs_ + int64_t{blocks_} * 16)) {}

  IGPT_TILES_INLINE void run() {
    for (int tile = 0; tile < 2 * blocks_; ++tile) pack_queries(tile);
    std::memset(dq_, 0, static_cast<size_t>(blocks_) * 2 * kTileBytes);
    for (int keys = 0; keys < blocks_; ++keys) {
      pack_keys(keys, 0), pack_keys(keys, 1);
      add_up(keys);
      finish_keys(keys, 0), finish_keys(keys, 1);
    }
    for (int tile = 0; tile < head_.tiles; ++tile) finish_queries(tile);
  }

 private:
  TileRow* query_tile(int tile) { return queries_ + int64_t{tile} * Split::kTiles * 16; }
  TileRow* out_tile(int tile) { return outs_ + int64_t{tile} * Split::kTiles * 16; }
  FloatRow* logits_of(int keys, int queries) { return products_[keys * 2 + queries]; }
  FloatRow* d_weights_of(int keys, int queries) { return products_[4 + keys * 2 + queries]; }

  // q and dO of 16 queries; zeros behind the image's last tile, whose weights are then zero.
  IGPT_TILES_INLINE void pack_queries(int tile) {
    TileRow *const q_to = query_tile(tile), *const out_to = out_tile(tile);
    TileRow *const q_pairs = query_pairs_ + tile / 2 * 16, *const out_pairs = out_pairs_ + tile / 2 * 16;
    if (tile >= head_.tiles) {
      for (TileRow* to : {q_to, out_to}) std::memset(to, 0, Split::kTiles * kTileBytes);
      for (int i = 0; i < 16; i += 2) _mm512_store_si512(out_pairs[packed_row(tile & 1, i)], _mm512_setzero_si512());
    } else {
      const int64_t at = tile * head_.tile_floats, sum = tile * head_.sum_floats;
      // Makes up for dS being cut off, not rounded, to 8 bits.
      const __m512 factor = _mm512_set1_ps(1.00282f);
      __m512 q[kHead], out[kHead];
      for (int i = 0; i < kHead; ++i) {
        q[i] = _mm512_load_ps(head_.q + at + i * 16);
        out[i] = _mm512_mul_ps(_mm512_load_ps(head_.d_attended + at + i * 16), factor);
      }
      const __m512 zero = _mm512_setzero_ps();
      store_right<kHead>(q, q_to);
      store_reference<kHead>(_mm512_sub_ps(zero, _mm512_load_ps(head_.log_sum_exp + sum)), kMagicPair, q_to);
      store_right<kHead>(out, out_to);
      const __m512 delta = _mm512_mul_ps(_mm512_load_ps(head_.delta + sum), factor);
      store_reference<kHead>(_mm512_sub_ps(zero, delta), 0, out_to);
      for (int i = 0; i < 16; i += 2)
        _mm512_store_si512(out_pairs[packed_row(tile & 1, i)],
                           split_token_pair<kHead>(query_token(tile, i, kSecondHalf),
                                                   query_token(tile, i + 1, kSecondHalf), OutLanes()));
    }
    if (tile % 2 == 1)  // dS comes in pairs of the two tiles
      for (int i = 0; i < 16; ++i)
        _mm512_store_si512(q_pairs[i],
                           split_token_pair<kHead>(query_token(tile - 1, i, 0), query_token(tile, i, 0), QueryLanes()));
  }
  IGPT_TILES_INLINE __m512 query_token(int tile, int i, int first) const {
    if (tile >= head_.tiles) return _mm512_setzero_ps();
    return _mm512_load_ps(head_.q_do + (int64_t{tile} * 16 + i) * head_.token_floats + first);
  }

  IGPT_TILES_INLINE void pack_keys(int keys, int half) {
    const int tile = 2 * keys + half;
    uint32_t* const k_to = k_[half][0][0];
    uint32_t* const v_to = v_[half][0][0];
    __m512 k[16];
    if (tile < head_.tiles) {
      const float* token = head_.kv + int64_t{tile} * 16 * head_.token_floats;
      for (int i = 0; i < 16; ++i, token += head_.token_floats) {
        k[i] = _mm512_load_ps(token);
        store_left<kHead>(k[i], KeyLanes(), ones_for_reference(), k_to + i * 16);
        const __m512 v = upper(_mm512_load_ps(token + kSecondHalf));  // as the forward pass takes it: else dP != delta
        store_left<kHead>(v, ValueLanes(), ones_for_reference(), v_to + i * 16);
      }
    } else {
      std::memset(k_to, 0, Split::kTiles * kTileBytes), std::memset(v_to, 0, Split::kTiles * kTileBytes);
      for (int i = 0; i < 16; ++i) k[i] = _mm512_setzero_ps();
    }
    transpose(k);
    for (int i = 0; i < kHead; ++i) {
      store_half_row(k[i], k_features_[i] + half * 8);
      if constexpr (kHead <= kRestColumn) store_half_row(rest(k[i]), k_features_[kRestColumn + i] + half * 8);
    }
  }
  static IGPT_TILES_INLINE void store_half_row(__m512 x, uint32_t* to) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits(rounded(x)), 16)));
  }

  // Tiles: 0 and 1 dv of the two halves of the keys, 2 and 3 dk; the others pass by.

  // left (half of the keys) by right (32 queries).
  IGPT_TILES_INLINE void product(const TileRow* left, const TileRow* right, FloatRow* to_0, FloatRow* to_1) {
    tiles_.clear(Tile<6>()), tiles_.clear(Tile<7>());
    for (int part = 0; part < Split::kTiles; ++part) {
      tiles_.load(Tile<4>(), left + part * 16);
      tiles_.load(Tile<5>(), right + part * 16);
      tiles_.multiply_add(Tile<6>(), Tile<4>(), Tile<5>());
      tiles_.load(Tile<5>(), right + (Split::kTiles + part) * 16);
      tiles_.multiply_add(Tile<7>(), Tile<4>(), Tile<5>());
    }
    tiles_.store(Tile<6>(), to_0), tiles_.store(Tile<7>(), to_1);
  }
  IGPT_TILES_INLINE void logits(int queries, int half) {
    product(k_[half][0], query_tile(2 * queries), logits_of(half, 0), logits_of(half, 1));
  }
  IGPT_TILES_INLINE void d_weights(int queries, int half) {
    product(v_[half][0], out_tile(2 * queries), d_weights_of(half, 0), d_weights_of(half, 1));
  }

  IGPT_TILES_INLINE void add_dv(int queries) {
    tiles_.load(Tile<5>(), out_pairs_ + queries * 16);
    tiles_.load(Tile<4>(), weights_[0]);
    tiles_.multiply_add(Tile<0>(), Tile<4>(), Tile<5>());
    tiles_.load(Tile<4>(), weights_[1]);
    tiles_.multiply_add(Tile<1>(), Tile<4>(), Tile<5>());
  }
  IGPT_TILES_INLINE void add_dk(int queries) {
    tiles_.load(Tile<5>(), query_pairs_ + queries * 16);
    tiles_.load(Tile<4>(), ds_[0]);
    tiles_.multiply_add(Tile<2>(), Tile<4>(), Tile<5>());
    tiles_.load(Tile<4>(), ds_[1]);
    tiles_.multiply_add(Tile<3>(), Tile<4>(), Tile<5>());
  }
  IGPT_TILES_INLINE void add_dq(int queries) {
    FloatRow* const to = dq_ + int64_t{queries} * 32;
    tiles_.load(Tile<4>(), k_features_);
    tiles_.load(Tile<5>(), ds_by_keys_[0]), tiles_.load(Tile<6>(), to);
    tiles_.multiply_add(Tile<6>(), Tile<4>(), Tile<5>());
    tiles_.load(Tile<5>(), ds_by_keys_[1]), tiles_.load(Tile<7>(), to + 16);
    tiles_.multiply_add(Tile<7>(), Tile<4>(), Tile<5>());
    tiles_.store(Tile<6>(), to), tiles_.store(Tile<7>(), to + 16);
  }

  // P and dS of half of the keys and the 32 queries: once as rows of the keys, dS also as pairs of the keys.
  IGPT_TILES_INLINE void weights(int half) {
    const FloatRow *const s_0 = logits_of(half, 0), *const s_1 = logits_of(half, 1);
    const FloatRow *const dp_0 = d_weights_of(half, 0), *const dp_1 = d_weights_of(half, 1);
    const __m512i zero = _mm512_setzero_si512();
#pragma GCC unroll 2
    for (int i = 0; i < 16; i += 2) {
      __m512 ds[2][2];  // [key][tile of queries]
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        const __m512i p = exponential_(
            Exponential::argument(_mm512_load_ps(s_0[i + j]), _mm512_load_ps(s_1[i + j]), /*exponent=*/127));
        _mm512_store_si512(weights_[half][i + j], p);
        ds[j][0] = _mm512_mul_ps(floats(_mm512_unpacklo_epi16(zero, p)), _mm512_load_ps(dp_0[i + j]));
        ds[j][1] = _mm512_mul_ps(floats(_mm512_unpackhi_epi16(zero, p)), _mm512_load_ps(dp_1[i + j]));
        _mm512_store_si512(ds_[half][i + j], pairs(ds[j][0], ds[j][1]));
      }
      for (int queries = 0; queries < 2; ++queries)
        _mm512_store_si512(ds_by_keys_[queries][half * 8 + i / 2], pairs(ds[0][queries], ds[1][queries]));
    }
  }

  // Queries before the key, in the block of the diagonal.
  IGPT_TILES_INLINE void mask() {
    for (int i = 0; i < 32; ++i) {
      float *const row_0 = logits_of(i / 16, 0)[i % 16], *const row_1 = logits_of(i / 16, 1)[i % 16];
      const uint32_t visible = ~uint32_t{0} << i;
      _mm512_store_ps(row_0, _mm512_maskz_mov_ps(static_cast<__mmask16>(visible), _mm512_load_ps(row_0)));
      _mm512_store_ps(row_1, _mm512_maskz_mov_ps(static_cast<__mmask16>(visible >> 16), _mm512_load_ps(row_1)));
    }
  }

  // As in the forward pass, what takes weights and dS runs one block behind.
  IGPT_TILES_INLINE void add_up(int keys) {
    tiles_.clear(Tile<0>()), tiles_.clear(Tile<1>()), tiles_.clear(Tile<2>()), tiles_.clear(Tile<3>());
    logits(keys, 0), d_weights(keys, 0), logits(keys, 1), d_weights(keys, 1);
    mask();
    weights(0), weights(1);
    for (int queries = keys + 1; queries < blocks_; ++queries) {
      logits(queries, 0);
      add_dv(queries - 1);
      d_weights(queries, 0);
      add_dk(queries - 1);
      logits(queries, 1);
      add_dq(queries - 1);
      d_weights(queries, 1);
      weights(0), weights(1);
    }
    add_dv(blocks_ - 1), add_dk(blocks_ - 1), add_dq(blocks_ - 1);
    tiles_.store(Tile<0>(), dv_[0]), tiles_.store(Tile<1>(), dv_[1]);
    tiles_.store(Tile<2>(), dk_[0]), tiles_.store(Tile<3>(), dk_[1]);
  }

  IGPT_TILES_INLINE void finish_keys(int keys, int half) {
    const int tile = 2 * keys + half;
    if (tile >= head_.tiles) return;
    float* token = head_.dkv + int64_t{tile} * 16 * head_.token_floats;
    for (int i = 0; i < 16; ++i, token += head_.token_floats) {
      __m512 dk = _mm512_load_ps(dk_[half][i]), dv = _mm512_load_ps(dv_[half][i]);
      if constexpr (kInterleaved) {
        const __m512i in_turn = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        dk = _mm512_add_ps(dk, _mm512_shuffle_f32x4(dk, dk, 0x4e));
        dv = _mm512_add_ps(dv, _mm512_shuffle_f32x4(dv, dv, 0x4e));
        _mm512_store_ps(token, _mm512_permutex2var_ps(dk, in_turn, dv));
      } else {
        _mm512_store_ps(token, dk), _mm512_store_ps(token + 16, dv);
      }
    }
  }

  IGPT_TILES_INLINE void finish_queries(int tile) {
    const FloatRow* const from = dq_ + int64_t{tile} * 16;
    for (int i = 0; i < kHead; ++i) {
      __m512 dq = _mm512_load_ps(from[i]);
      if constexpr (kHead <= kRestColumn) dq = _mm512_add_ps(dq, _mm512_load_ps(from[kRestColumn + i]));
      _mm512_store_ps(head_.dq + tile * head_.tile_floats + i * 16, dq);
    }
  }

  Tiles& tiles_;
  const HeadOfImageBackward& head_;
  const int blocks_;
  TileRow* const queries_;      // [tile][kTiles]: right operands
  TileRow* const outs_;         // the same of dO
  TileRow* const query_pairs_;  // [block]: right operands of 32 tokens
  TileRow* const out_pairs_;    // the same of dO
  FloatRow* const dq_;          // [tile]: features by queries
  const Exponential exponential_;

  alignas(4096) float products_[8][16][16];  // logits, then the weights' gradients: [half of keys][half of queries]
  alignas(64) uint32_t weights_[2][16][16], ds_[2][16][16], ds_by_keys_[2][16][16];
  alignas(64) uint32_t k_[2][Split::kTiles][16][16], v_[2][Split::kTiles][16][16];
  alignas(64) uint32_t k_features_[16][16] = {};  // features by 32 keys
  alignas(64) float dk_[2][16][16], dv_[2][16][16];
};

IGPT_TILES_END

}  // namespace igpt::ops::cpu

#endif
