#pragma once

// Operands of products on tiles, from rows of floats.
//
// A bf16 has 8 bits, too few for logits of several hundred. So a number is split into the bf16 next to it (upper) and
// the bf16 next to the rest (lower), and the tile's inner dimension of 32 is filled with
//
//   left   [ upper | lower | upper | ones      ]
//   right  [ upper | upper | lower | reference ]
//
// whose product is upper upper + lower upper + upper lower + reference: a logit of 16 bits, from which its reference
// point, a float in three pieces, is subtracted for nothing. Heads wider than 8 take two such products.

#include "src/ops/cpu/tiles.h"

#if IGPT_HAVE_TILES

namespace igpt::ops::cpu {

using TileRow = uint32_t[16];  ///< of pairs of bf16; a tile's rows follow each other
using FloatRow = float[16];

/// Dwords (pairs of bf16) along the inner dimension: 3 kHead / 2 of features, zeros, and four for the reference point,
/// the last of which is `kMagic`'s.
template <int kHead>
struct SplitProduct {
  static constexpr int kPairs = kHead / 2;
  static constexpr int kTiles = (3 * kPairs + 4 + 15) / 16;
  static constexpr int kReference = 16 * kTiles - 4;
};

/// Added to a logit, 1.5 * 2^16 leaves it in the low bits of the float, in units of 1/128, its magnitude below 2^15.
constexpr float kMagic = 98304.0f;
constexpr int kMagicBits = 0x47C00000;
constexpr int kMagicPair = 0x47C0, kOnePair = 0x3F80, kOnesPair = 0x3F803F80;  // of bf16; the low one comes first

/// The lanes of a vector that hold a token's features: from `kFirst`, `kStep` apart.
template <int kFirst, int kStep>
struct Lanes {};

IGPT_TILES_BEGIN

IGPT_TILES_INLINE __m512i bits(__m512 x) {
  return _mm512_castps_si512(x);
}
IGPT_TILES_INLINE __m512 floats(__m512i x) {
  return _mm512_castsi512_ps(x);
}

/// A float whose upper half is the bf16 next to x.
IGPT_TILES_INLINE __m512 rounded(__m512 x) {
  return floats(_mm512_add_epi32(bits(x), _mm512_set1_epi32(0x8000)));
}
IGPT_TILES_INLINE __m512 upper(__m512 x) {
  return floats(_mm512_and_si512(bits(rounded(x)), _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}
IGPT_TILES_INLINE __m512 rest(__m512 x) {
  return _mm512_sub_ps(x, upper(x));
}

/// The upper halves of a (low) and b (high).
IGPT_TILES_INLINE __m512i pairs(__m512 a, __m512 b) {
  return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(bits(a), 16), bits(b));
}

/// r[i] lane j <-> r[j] lane i.
IGPT_TILES_INLINE void transpose(__m512* r) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // 4 x 4 within each 128-bit block
    const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
    const __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // 4 x 4 blocks
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88), t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88), r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

/// Places of 16-bit words in two vectors, and which of the result's words are not zero.
struct Words {
  alignas(64) uint16_t place[32] = {};
  uint32_t used = 0;
};
IGPT_TILES_INLINE __m512i take(const Words& words, __m512 a, __m512 b) {
  return _mm512_maskz_permutex2var_epi16(words.used, bits(a), _mm512_load_si512(words.place), bits(b));
}

template <int kHead, int kFirst, int kStep>
constexpr Words left_words(int tile) {
  constexpr int kPairs = SplitProduct<kHead>::kPairs;
  Words words;
  for (int i = 0; i < 32; ++i) {
    const int dword = 16 * tile + i / 2, part = dword / kPairs, feature = dword % kPairs * 2 + i % 2;
    if (part > 2) continue;
    words.place[i] = static_cast<uint16_t>((part == 1 ? 32 : 0) + 2 * (kFirst + kStep * feature) + 1);
    words.used |= 1u << i;
  }
  return words;
}

/// A row of a left operand, in the order above, from a token's features: `to` is the row in the first of its tiles.
/// `reference` goes into the last four dwords.
template <int kHead, int kFirst, int kStep>
IGPT_TILES_INLINE void store_left(__m512 token, Lanes<kFirst, kStep>, __m512i reference, uint32_t* to) {
  static constexpr Words kFirstTile = left_words<kHead, kFirst, kStep>(0);
  const __m512 near = rounded(token), far = rounded(rest(token));
  const __m512i first = take(kFirstTile, near, far);
  if constexpr (SplitProduct<kHead>::kTiles == 1) {
    _mm512_store_si512(to, _mm512_or_si512(first, reference));
  } else {
    static_assert(SplitProduct<kHead>::kTiles == 2);
    static constexpr Words kLast = left_words<kHead, kFirst, kStep>(1);
    _mm512_store_si512(to, first);
    _mm512_store_si512(to + 256, _mm512_or_si512(take(kLast, near, far), reference));
  }
}
IGPT_TILES_INLINE __m512i ones_for_reference() {
  return _mm512_maskz_set1_epi32(1 << 12, kOnesPair) | _mm512_maskz_set1_epi32(5 << 13, kOnePair);
}
IGPT_TILES_INLINE __m512i magic_alone() {
  return _mm512_maskz_set1_epi32(1 << 15, kMagicPair);
}

/// A right operand of 16 tokens, without its reference point.
template <int kHead>
IGPT_TILES_INLINE void store_right(const __m512* features, TileRow* to) {
  constexpr int kPairs = SplitProduct<kHead>::kPairs;
#pragma GCC unroll 8
  for (int i = 0; i < kPairs; ++i) {
    const __m512 a = features[2 * i], b = features[2 * i + 1];
    const __m512i near = pairs(rounded(a), rounded(b));
    _mm512_store_si512(to[i], near);
    _mm512_store_si512(to[kPairs + i], near);
    _mm512_store_si512(to[2 * kPairs + i], pairs(rounded(rest(a)), rounded(rest(b))));
  }
  for (int i = 3 * kPairs; i < SplitProduct<kHead>::kReference; ++i) _mm512_store_si512(to[i], _mm512_setzero_si512());
}
/// ... with this for each token, and `last` as the fourth dword.
template <int kHead>
IGPT_TILES_INLINE void store_reference(__m512 reference, int last, TileRow* to) {
  TileRow* const rows = to + SplitProduct<kHead>::kReference;
  const __m512 remaining = rest(reference);
  _mm512_store_si512(rows[0], pairs(upper(reference), upper(remaining)));
  _mm512_store_si512(rows[1], pairs(rest(remaining), _mm512_setzero_ps()));
  _mm512_store_si512(rows[2], _mm512_setzero_si512());
  _mm512_store_si512(rows[3], _mm512_set1_epi32(last));
}
/// ... with ones to be multiplied by the left operand's.
template <int kHead>
IGPT_TILES_INLINE void store_ones(TileRow* to) {
  const int rows[] = {kOnesPair, kOnePair, 0, kOnePair};
  for (int i = 0; i < 4; ++i) _mm512_store_si512(to[SplitProduct<kHead>::kReference + i], _mm512_set1_epi32(rows[i]));
}

template <int kHead, int kFirst, int kStep, int kColumn>
constexpr Words pair_words() {
  Words words;
  for (int feature = 0; feature < kHead; ++feature)
    for (int token = 0; token < 2; ++token) {
      const int i = 2 * (kColumn + feature) + token;
      words.place[i] = static_cast<uint16_t>(32 * token + 2 * (kFirst + kStep * feature) + 1);
      words.used |= 1u << i;
    }
  return words;
}

/// A row of a right operand whose inner dimension are tokens: the features of tokens a and b, from column kColumn.
template <int kHead, int kColumn, int kFirst, int kStep>
IGPT_TILES_INLINE __m512i token_pair(__m512 a, __m512 b, Lanes<kFirst, kStep>) {
  static constexpr Words kWords = pair_words<kHead, kFirst, kStep, kColumn>();
  return take(kWords, rounded(a), rounded(b));
}
constexpr int kRestColumn = 8;  // where 8 features leave room for a second bf16

/// ... with both parts of each feature where they fit.
template <int kHead, int kFirst, int kStep>
IGPT_TILES_INLINE __m512i split_token_pair(__m512 a, __m512 b, Lanes<kFirst, kStep> lanes) {
  const __m512i near = token_pair<kHead, 0>(a, b, lanes);
  if constexpr (kHead > kRestColumn)
    return near;
  else
    return near | token_pair<kHead, kRestColumn>(rest(a), rest(b), lanes);
}

/// The exponential of base 2 in 16-bit integers: a logit in units of 1/128 is the exponent and the mantissa, but for
/// its curve, of a bf16. Next to tiles floating-point vectors run at half their rate, integers do not.
struct Exponential {
  struct Curve {
    alignas(64) uint8_t bytes[128] = {};
  };
  static const Curve kCurve;

  IGPT_TILES_INLINE Exponential() : low(_mm512_load_si512(kCurve.bytes)), high(_mm512_load_si512(kCurve.bytes + 64)) {}

  __m512i low, high;

  /// Of kMagic + logit: logits of two vectors in units of 1/128, plus `exponent` * 128, from 0 to 65535. The order of
  /// each 128-bit block is four of a, four of b.
  static IGPT_TILES_INLINE __m512i argument(__m512 a, __m512 b, int exponent) {
    const __m512i zero_point = _mm512_set1_epi32(kMagicBits - exponent * 128);
    return _mm512_packus_epi32(_mm512_sub_epi32(bits(a), zero_point), _mm512_sub_epi32(bits(b), zero_point));
  }
  IGPT_TILES_INLINE __m512i operator()(__m512i argument) const {
    return _mm512_sub_epi16(argument, _mm512_maskz_permutex2var_epi8(0x5555555555555555, low, argument, high));
  }
};

constexpr Exponential::Curve curve() {
  Exponential::Curve result;
  double power = 1;  // 2^(i / 128)
  for (int i = 0; i < 128; ++i, power *= 1.0054299011128028)
    result.bytes[i] = static_cast<uint8_t>(i - static_cast<int>((power - 1) * 128 + 0.5));
  return result;
}
inline constexpr Exponential::Curve Exponential::kCurve = curve();

/// The row of a right operand of 32 tokens, in the order that Exponential leaves, for tokens `i` and `i` + 1 of one of
/// the two tiles.
constexpr int packed_row(int tile, int i) {
  return i / 4 * 4 + i % 4 / 2 + 2 * tile;
}

/// log2 of positive normal numbers: the exponent plus 2 atanh((m - 1) / (m + 1)) log2(e), m in [3/4, 3/2).
IGPT_TILES_INLINE __m512 log2_of(__m512 x) {
  const __m512 one = _mm512_set1_ps(1), m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_zero);
  const __m512 exponent =
      _mm512_add_ps(_mm512_getexp_ps(x), _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(m, one, _CMP_LT_OQ), one));
  const __m512 s = _mm512_div_ps(_mm512_sub_ps(m, one), _mm512_add_ps(m, one)), z = _mm512_mul_ps(s, s);
  __m512 p = _mm512_set1_ps(2.0f / 11);
  for (const float coefficient : {2.0f / 9, 2.0f / 7, 2.0f / 5, 2.0f / 3, 2.0f})
    p = _mm512_fmadd_ps(z, p, _mm512_set1_ps(coefficient));
  return _mm512_fmadd_ps(_mm512_mul_ps(s, p), _mm512_set1_ps(1.44269504f), exponent);
}

IGPT_TILES_END

}  // namespace igpt::ops::cpu

#endif
