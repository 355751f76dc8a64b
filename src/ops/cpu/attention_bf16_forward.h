#pragma once

#include "src/ops/cpu/layout.h"
#include "src/ops/cpu/tile_operands.h"

#if IGPT_HAVE_TILES

#include <cmath>

namespace igpt::ops::cpu {

/// What attention reads and writes of one head of an image; see Workspace for the shapes.
struct HeadOfImage {
  const float *q, *kv;
  float *attended, *log_sum_exp;
  int64_t tile_floats, sum_floats;  // from one tile to the next: of q and attended, of log_sum_exp
  int64_t token_floats;             // from one token to the next in kv
  int tiles;
};

IGPT_TILES_BEGIN

/// softmax(q k^T) v for one head, 32 queries after the other, each with 32 keys after the other.
///
/// The exponent's reference point starts at zero and moves only when a logit comes near to overflowing; a block with a
/// row whose logits all lie far below is done again with reference points from its first keys.
template <class Tiles, int kHead>
class Bf16Forward {
  using Split = SplitProduct<kHead>;
  // Weights are 2^-32 times the exponential: overflow nears where one of the two upper bits is set, at 2^33.
  static constexpr int kShift = 32, kTooLarge = 0xC000;
  static constexpr float kSmallestSum = 0x1p-92f;
  // When a row moves its reference point, others of its tile with logits this high do so too.
  static constexpr float kMoves = 8;
  // v and the ones whose product is the sum of the weights stand side by side, or need two tiles.
  static constexpr int kColumns = kHead < 16 ? 1 : 2;
  using ValueLanes = Lanes<(kHead < 16 ? kHead : 0), 1>;

 public:
  static int64_t scratch_floats(int tiles) { return int64_t{(tiles + 1) / 2} * (2 * Split::kTiles + 1) * 256; }

  IGPT_TILES_INLINE Bf16Forward(Tiles& tiles, const HeadOfImage& head, float* scratch)
      : tiles_(tiles),
        head_(head),
        blocks_((head.tiles + 1) / 2),
        keys_(reinterpret_cast<TileRow*>(scratch)),
        values_(keys_ + int64_t{blocks_} * 2 * Split::kTiles * 16) {}

  IGPT_TILES_INLINE void run() {
    for (int row = 0; row < 16; ++row) _mm512_store_si512(ones_[row], _mm512_set1_epi32(kOnesPair));
    for (int tile = 0; tile < 2 * blocks_; ++tile) pack_keys(tile);
    for (int block = 0; block < blocks_; ++block) {
      for (const bool by_first_keys : {false, true}) {
        pack_queries(block);
        attend(block, by_first_keys);
        if (finish(block, /*accept=*/by_first_keys)) break;
      }
    }
  }

 private:
  TileRow* key_tile(int tile) { return keys_ + int64_t{tile} * Split::kTiles * 16; }
  FloatRow* logits_of(int keys, int half) { return logits_ + (keys & 1) * 96 + half * 32; }  // 32 rows: 2 tiles

  // k and v of 16 keys; of tokens behind the image's last tile zeros, without the ones that would add a weight.
  IGPT_TILES_INLINE void pack_keys(int tile) {
    TileRow* const keys = key_tile(tile);
    TileRow* const values = values_ + tile / 2 * 16;
    __m512 k[16], v[16];
    for (int i = 0; i < 16; ++i) k[i] = v[i] = _mm512_setzero_ps();
    if (tile < head_.tiles) {
      const float* const token = head_.kv + int64_t{tile} * 16 * head_.token_floats;
      for (int i = 0; i < 16; ++i) {
        k[i] = _mm512_load_ps(token + i * head_.token_floats);
        v[i] = kHead < 16 ? k[i] : _mm512_load_ps(token + i * head_.token_floats + 16);
      }
    }
    for (int i = 0; i < 16; i += 2) {
      __m512i pair = token_pair<kHead, 0>(v[i], v[i + 1], ValueLanes());
      if constexpr (kColumns == 1) pair = pair | _mm512_maskz_set1_epi32(1 << kHead, kOnesPair);
      _mm512_store_si512(values[packed_row(tile & 1, i)], pair);
    }
    transpose(k);
    store_right<kHead>(k, keys);
    tile < head_.tiles ? store_ones<kHead>(keys) : store_reference<kHead>(_mm512_setzero_ps(), 0, keys);
  }

  IGPT_TILES_INLINE void pack_queries(int block) {
    for (int half = 0; half < 2; ++half) {
      const int tile = 2 * block + half;
      __m512 q[16];
      for (int i = 0; i < 16; ++i)
        q[i] = i < kHead && tile < head_.tiles ? _mm512_load_ps(head_.q + tile * head_.tile_floats + i * 16)
                                               : _mm512_setzero_ps();
      transpose(q);
      for (int i = 0; i < 16; ++i) store_left<kHead>(q[i], Lanes<0, 1>(), magic_alone(), queries_[half][0][i]);
      _mm512_store_ps(reference_[half], _mm512_setzero_ps());
    }
  }

  // Tiles: 0 to 2 kColumns - 1 sums of p v; 2 and 3, where free, the queries; the others pass by.
  template <int kHalf, int kColumn = 0>
  using Sum = Tile<kHalf * kColumns + kColumn>;
  template <int kHalf>
  using Queries = Tile<2 + kHalf>;

  template <int kHalf>
  IGPT_TILES_INLINE void load_queries() {
    if constexpr (Split::kTiles == 1) tiles_.load(Queries<kHalf>(), queries_[kHalf][0]);
  }
  template <int kHalf>
  IGPT_TILES_INLINE void load_sums() {
    tiles_.load(Sum<kHalf>(), sums_[kHalf][0]);
    if constexpr (kColumns == 2) tiles_.load(Sum<kHalf, 1>(), sums_[kHalf][1]);
  }
  template <int kHalf>
  IGPT_TILES_INLINE void store_sums() {
    tiles_.store(Sum<kHalf>(), sums_[kHalf][0]);
    if constexpr (kColumns == 2) tiles_.store(Sum<kHalf, 1>(), sums_[kHalf][1]);
  }

  // Half of the queries by a block of keys. The second half finds the keys where the first left them.
  template <int kHalf>
  IGPT_TILES_INLINE void logits(int keys) {
    FloatRow* const to = logits_of(keys, kHalf);
    if constexpr (Split::kTiles == 1) {
      if constexpr (kHalf == 0) tiles_.load(Tile<4>(), key_tile(2 * keys));
      tiles_.clear(Tile<5>());
      tiles_.multiply_add(Tile<5>(), Queries<kHalf>(), Tile<4>());
      if constexpr (kHalf == 0) tiles_.load(Tile<7>(), key_tile(2 * keys + 1));
      tiles_.clear(Tile<6>());
      tiles_.multiply_add(Tile<6>(), Queries<kHalf>(), Tile<7>());
      tiles_.store(Tile<5>(), to);
    } else {
      tiles_.clear(Tile<7>()), tiles_.clear(Tile<6>());
      for (int part = 0; part < Split::kTiles; ++part) {
        tiles_.load(Tile<4>(), queries_[kHalf][part]);
        tiles_.load(Tile<5>(), key_tile(2 * keys) + part * 16);
        tiles_.multiply_add(Tile<7>(), Tile<4>(), Tile<5>());
        tiles_.load(Tile<5>(), key_tile(2 * keys + 1) + part * 16);
        tiles_.multiply_add(Tile<6>(), Tile<4>(), Tile<5>());
      }
      tiles_.store(Tile<7>(), to);
    }
    tiles_.store(Tile<6>(), to + 16);
  }

  // Whether a logit comes near to overflowing.
  IGPT_TILES_INLINE bool weights(int keys, int half) {
    const FloatRow* const from = logits_of(keys, half);
    TileRow* const to = weights_[keys & 1][half];
    __m512i any = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 2) {
      const __m512i a = Exponential::argument(_mm512_load_ps(from[i]), _mm512_load_ps(from[16 + i]), 127 - kShift);
      const __m512i b = Exponential::argument(_mm512_load_ps(from[i + 1]), _mm512_load_ps(from[17 + i]), 127 - kShift);
      any = _mm512_ternarylogic_epi32(any, a, b, 0xfe);
      _mm512_store_si512(to[i], exponential_(a)), _mm512_store_si512(to[i + 1], exponential_(b));
    }
    return _mm512_test_epi16_mask(any, _mm512_set1_epi16(static_cast<short>(kTooLarge))) != 0;
  }

  // Runs one block behind the weights: a tile's load of rows just stored waits until the stores have left the core.
  IGPT_TILES_INLINE void add_values(int keys) {
    tiles_.load(Tile<4>(), values_ + keys * 16);
    if constexpr (kColumns == 2) tiles_.load(Tile<6>(), ones_);
    tiles_.load(Tile<7>(), weights_[keys & 1][0]);
    tiles_.multiply_add(Sum<0>(), Tile<7>(), Tile<4>());
    if constexpr (kColumns == 2) tiles_.multiply_add(Sum<0, 1>(), Tile<7>(), Tile<6>());
    tiles_.load(Tile<5>(), weights_[keys & 1][1]);
    tiles_.multiply_add(Sum<1>(), Tile<5>(), Tile<4>());
    if constexpr (kColumns == 2) tiles_.multiply_add(Sum<1, 1>(), Tile<5>(), Tile<6>());
  }

  // Keys behind the query, in the block of the diagonal.
  IGPT_TILES_INLINE void mask(int keys) {
    for (int i = 0; i < 32; ++i) {
      FloatRow* const row = logits_of(keys, i / 16) + i % 16;
      const uint32_t visible = (uint32_t{2} << i) - 1;
      _mm512_store_ps(row[0], _mm512_maskz_mov_ps(static_cast<__mmask16>(visible), _mm512_load_ps(row[0])));
      _mm512_store_ps(row[16], _mm512_maskz_mov_ps(static_cast<__mmask16>(visible >> 16), _mm512_load_ps(row[16])));
    }
  }

  IGPT_TILES_INLINE void attend(int block, bool by_first_keys) {
    tiles_.clear(Sum<0>()), tiles_.clear(Sum<1>());
    if constexpr (kColumns == 2) tiles_.clear(Sum<0, 1>()), tiles_.clear(Sum<1, 1>());
    load_queries<0>(), load_queries<1>();
    logits<0>(0), logits<1>(0);
    if (block == 0) mask(0);
    bool over_0 = weights(0, 0), over_1 = weights(0, 1);
    settle<0>(0, over_0, by_first_keys, false), settle<1>(0, over_1, by_first_keys, false);
    if (block > 0) logits<0>(1), logits<1>(1);
    for (int keys = 1; keys < block; ++keys) {
      logits<0>(keys + 1);
      over_0 = weights(keys, 0);
      logits<1>(keys + 1);
      over_1 = weights(keys, 1);
      add_values(keys - 1);
      settle<0>(keys, over_0, false, true), settle<1>(keys, over_1, false, true);
    }
    if (block > 0) {
      mask(block);
      over_0 = weights(block, 0), over_1 = weights(block, 1);
      add_values(block - 1);
      settle<0>(block, over_0, false, false), settle<1>(block, over_1, false, false);
    }
    add_values(block);
    store_sums<0>(), store_sums<1>();
  }

  template <int kHalf>
  IGPT_TILES_INLINE void settle(int keys, bool over, bool all, bool next_is_there) {
    if (__builtin_expect(!over && !all, 1)) return;
    store_sums<kHalf>();
    move_reference(keys, kHalf, all, next_is_there);
    load_sums<kHalf>(), load_queries<kHalf>();
    weights(keys, kHalf);
  }

  // Moves the reference point of rows to their largest logit among these keys.
  __attribute__((noinline)) void move_reference(int keys, int half, bool all, bool next_is_there) {
    FloatRow *const now = logits_of(keys, half), *const next = logits_of(keys + 1, half);
    for (int i = 0; i < 16; ++i) {
      const __m512 a = _mm512_load_ps(now[i]), b = _mm512_load_ps(now[16 + i]);
      const float step = _mm512_reduce_max_ps(_mm512_max_ps(a, b)) - kMagic;
      if (!all && !(step > kMoves)) continue;
      reference_[half][i] += step;
      const __m512 by = _mm512_set1_ps(step), masked = _mm512_setzero_ps();
      _mm512_store_ps(now[i], _mm512_mask_sub_ps(a, _mm512_cmp_ps_mask(a, masked, _CMP_NEQ_UQ), a, by));
      _mm512_store_ps(now[16 + i], _mm512_mask_sub_ps(b, _mm512_cmp_ps_mask(b, masked, _CMP_NEQ_UQ), b, by));
      if (next_is_there)
        for (float* const row : {next[i], next[16 + i]}) _mm512_store_ps(row, _mm512_sub_ps(_mm512_load_ps(row), by));
      const __m512 minus = _mm512_set1_ps(-reference_[half][i]), remaining = rest(minus);
      uint32_t* const pieces = queries_[half][Split::kTiles - 1][i] + 12;
      pieces[0] = static_cast<uint32_t>(_mm512_cvtsi512_si32(pairs(upper(minus), upper(remaining))));
      pieces[1] = static_cast<uint32_t>(_mm512_cvtsi512_si32(pairs(rest(remaining), masked)));
      if (all) continue;  // nothing has been added up
      const __m512 shrink = _mm512_set1_ps(std::exp2(-step));
      for (int column = 0; column < kColumns; ++column)
        _mm512_store_ps(sums_[half][column][i], _mm512_mul_ps(_mm512_load_ps(sums_[half][column][i]), shrink));
    }
  }

  // False, unless told to accept, where the sum of a row's weights came near to zero.
  IGPT_TILES_INLINE bool finish(int block, bool accept) {
    for (int half = 0; half < 2; ++half) {
      const int tile = 2 * block + half;
      if (tile >= head_.tiles) break;
      __m512 out[16];
      __m512 sum = _mm512_setzero_ps();
      if constexpr (kColumns == 2) {
        for (int i = 0; i < 16; ++i) out[i] = _mm512_load_ps(sums_[half][1][i]);
        transpose(out);
        sum = out[0];
      }
      for (int i = 0; i < 16; ++i) out[i] = _mm512_load_ps(sums_[half][0][i]);
      transpose(out);
      if constexpr (kColumns == 1) sum = out[kHead];
      if (!accept && _mm512_cmp_ps_mask(sum, _mm512_set1_ps(kSmallestSum), _CMP_NGT_UQ)) return false;
      const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1), sum);
      for (int i = 0; i < kHead; ++i)
        _mm512_store_ps(head_.attended + tile * head_.tile_floats + i * 16, _mm512_mul_ps(out[i], inverse));
      const __m512 reference = _mm512_add_ps(_mm512_load_ps(reference_[half]), _mm512_set1_ps(kShift));
      _mm512_store_ps(head_.log_sum_exp + tile * head_.sum_floats, _mm512_add_ps(log2_of(sum), reference));
    }
    return true;
  }

  Tiles& tiles_;
  const HeadOfImage& head_;
  const int blocks_;
  TileRow* const keys_;    // [tile][kTiles]: right operands
  TileRow* const values_;  // [block]: right operands of 32 tokens
  const Exponential exponential_;

  // Two blocks of logits, 6 KB apart: a load of one never meets a waiting store of the other at the same place modulo
  // 4096.
  alignas(4096) float logits_[160][16];
  alignas(64) uint32_t weights_[2][2][16][16];
  alignas(64) uint32_t queries_[2][Split::kTiles][16][16];
  alignas(64) uint32_t ones_[16][16];
  alignas(64) float sums_[2][kColumns][16][16];
  alignas(64) float reference_[2][16];
};

IGPT_TILES_END

}  // namespace igpt::ops::cpu

#endif
