// Causal attention of one head of one image, forward and backward.
//
// Queries lie across the lanes: a tile of N of them meets one key after the other, whose features are broadcast. Of a
// key, k and v stand side by side in a row of `kPairStride` floats. Logits are of base 2 (the scale is in q).

#if defined(IGPT_OPS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef IGPT_OPS_CPU_ATTENTION_INL_H_
#undef IGPT_OPS_CPU_ATTENTION_INL_H_
#else
#define IGPT_OPS_CPU_ATTENTION_INL_H_
#endif

#include "src/ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace igpt::ops::cpu {
namespace HWY_NAMESPACE {

template <int kHeadDim>
constexpr int kPairStride = HWY_MAX(2 * kHeadDim, N);

constexpr float kMasked = -1e30f;
constexpr float kHeadroom = 60.0f;  // a logit may exceed its reference point by this much: 2^60 sums stay finite

/// The lanes whose query stands at or after the tile's key `j`.
HWY_INLINE auto visible(int j) {
  return hn::Ge(hn::Iota(kFloats, 0.0f), all(static_cast<float>(j)));
}

/// A tile of queries and what has been summed over the keys so far: softmax(q k^T) v with a reference point in place of
/// the maximum. It moves only when a logit comes near to overflowing, which costs a maximum and a comparison per key.
template <int kHeadDim>
struct QueryTile {
  static constexpr int kKeys = HWY_MIN(N, kManyRegisters ? 8 : 4);  // in flight

  V q[kHeadDim], out[kHeadDim], sum, minus_reference;

  HWY_INLINE QueryTile() {}  // NEON's vectors have a constructor, which an implicit one could not inline

  template <bool kFirst, bool kDiagonal>
  HWY_INLINE void attend(const float* kv, int first_key) {
    constexpr int kStride = kPairStride<kHeadDim>;
    V p[kKeys];
    IGPT_UNROLL(8)
    for (int j = 0; j < kKeys; ++j) p[j] = hn::MulAdd(q[0], all(kv[j * kStride]), minus_reference);
    IGPT_UNROLL(32)
    for (int i = 1; i < kHeadDim; ++i) {
      IGPT_UNROLL(8)
      for (int j = 0; j < kKeys; ++j) p[j] = hn::MulAdd(q[i], all(kv[j * kStride + i]), p[j]);
    }
    if constexpr (kDiagonal) {
      IGPT_UNROLL(8)
      for (int j = 0; j < kKeys; ++j) p[j] = hn::IfThenElse(visible(first_key + j), p[j], all(kMasked));
    }
    V largest = p[0];
    IGPT_UNROLL(8)
    for (int j = 1; j < kKeys; ++j) largest = hn::Max(largest, p[j]);
    const auto over = hn::Gt(largest, all(kHeadroom));
    if (kFirst || HWY_UNLIKELY(!hn::AllFalse(kFloats, over))) {
      const V step = kFirst ? largest : hn::IfThenElseZero(over, largest);
      minus_reference = hn::Sub(minus_reference, step);
      for (int j = 0; j < kKeys; ++j) p[j] = hn::Sub(p[j], step);
      if constexpr (!kFirst) {
        const V shrink = exp2(hn::Neg(step));
        sum = hn::Mul(sum, shrink);
        for (int i = 0; i < kHeadDim; ++i) out[i] = hn::Mul(out[i], shrink);
      }
    }
    IGPT_UNROLL(8)
    for (int j = 0; j < kKeys; ++j) p[j] = exp2(p[j]);
    IGPT_UNROLL(8)
    for (int j = 0; j < kKeys; ++j) sum = hn::Add(sum, p[j]);
    IGPT_UNROLL(8)
    for (int j = 0; j < kKeys; ++j) {
      IGPT_UNROLL(32)
      for (int i = 0; i < kHeadDim; ++i) out[i] = hn::MulAdd(p[j], all(kv[j * kStride + kHeadDim + i]), out[i]);
    }
  }
};

/// `q` and `out`: tiles of kHeadDim rows, `tile_stride` floats apart; `kv`: rows of the keys; `log_sum_exp`: one row
/// for each tile, `sum_stride` floats apart. For N query-key pairs: 2 kHeadDim multiply-adds, 14 vector operations (11
/// of them exp2) and 2 kHeadDim broadcasts.
template <int kHeadDim>
HWY_NOINLINE void attention_forward(const float* q, int64_t tile_stride, const float* kv, int tiles, float* out,
                                    float* log_sum_exp, int64_t sum_stride) {
  constexpr int kStride = kPairStride<kHeadDim>, kKeys = QueryTile<kHeadDim>::kKeys;
  for (int tile = 0; tile < tiles; ++tile, q += tile_stride, out += tile_stride, log_sum_exp += sum_stride) {
    QueryTile<kHeadDim> queries;
    IGPT_UNROLL(32)
    for (int i = 0; i < kHeadDim; ++i) {
      queries.q[i] = load(q + i * N);
      queries.out[i] = zero();
    }
    queries.sum = queries.minus_reference = zero();
    const float* const diagonal = kv + int64_t{tile} * N * kStride;
    const float* key = kv;
    if (tile == 0) {
      queries.template attend<true, true>(key, 0);
    } else {
      queries.template attend<true, false>(key, 0);
    }
    for (key += kKeys * kStride; key < diagonal; key += kKeys * kStride) queries.template attend<false, false>(key, 0);
    for (int j = tile == 0 ? kKeys : 0; j < N; j += kKeys)
      queries.template attend<false, true>(diagonal + j * kStride, j);
    const V inverse = hn::Div(all(1.0f), queries.sum);
    IGPT_UNROLL(32)
    for (int i = 0; i < kHeadDim; ++i) store(hn::Mul(queries.out[i], inverse), out + i * N);
    store(hn::Sub(log2(queries.sum), queries.minus_reference), log_sum_exp);
  }
}

// dK and dV are sums over the queries, that is over lanes: here the features lie across the lanes instead, and the
// weights P and dS of a pair are broadcast. Where a head's dK and dV fit one vector together, they are interleaved, as
// are P and dS: then one 64-bit broadcast and one multiply-add serve both.
template <int kHeadDim>
constexpr bool kInterleaved = N >= 4 && 2 * kHeadDim <= N;

/// Row of q_do and dkv of a token: place of feature `i` of q or dk (which = 0), of dO or dv (1).
template <int kHeadDim>
constexpr int pair_row(int which, int i) {
  return kInterleaved<kHeadDim> ? 2 * i + which : which * kHeadDim + i;
}

/// P and dS of N keys and N queries.
struct Weights {
  HWY_ALIGN float p[N * N], ds[N * N], both[2 * N * N];
};

HWY_INLINE void store_interleaved(V ds, V p, float* both) {
#if HWY_TARGET != HWY_SCALAR
  store(hn::InterleaveLower(kFloats, ds, p), both);
  store(hn::InterleaveUpper(kFloats, ds, p), both + N);
#else
  both[0] = hn::GetLane(ds), both[1] = hn::GetLane(p);
#endif
}

/// Where store_interleaved leaves query `i`: each 128-bit block has two pairs from either half of its lanes.
constexpr int both_place(int i) {
  return (i / 4) * 4 + (i & 1) * 2 + (i & 2) * (N / 2);
}

template <int kHeadDim>
HWY_INLINE void backward_probabilities(const float* q, const float* kv, V minus_log_sum_exp, bool diagonal,
                                       Weights& weights) {
  constexpr int kStride = kPairStride<kHeadDim>, kKeys = HWY_MIN(N, 8);
  IGPT_UNROLL(1)
  for (int first = 0; first < N; first += kKeys, kv += kKeys * kStride) {
    V p[kKeys];
    IGPT_UNROLL(8)
    for (int j = 0; j < kKeys; ++j) p[j] = minus_log_sum_exp;
    IGPT_UNROLL(32)
    for (int i = 0; i < kHeadDim; ++i) {
      const V q_i = load(q + i * N);
      IGPT_UNROLL(8)
      for (int j = 0; j < kKeys; ++j) p[j] = hn::MulAdd(q_i, all(kv[j * kStride + i]), p[j]);
    }
    IGPT_UNROLL(8)
    for (int j = 0; j < kKeys; ++j) store(exp2(p[j]), weights.p + (first + j) * N);
  }
  if (diagonal)
    for (int j = 0; j < N; ++j) store(hn::IfThenElseZero(visible(j), load(weights.p + j * N)), weights.p + j * N);
}

/// dS = P (dP - delta), dP = dO v; adds dS k to dq.
template <int kHeadDim>
HWY_INLINE void backward_logits(const float* d_out, const float* kv, V minus_delta, Weights& weights, V* dq) {
  constexpr int kStride = kPairStride<kHeadDim>, kKeys = HWY_MIN(N, 4);
  IGPT_UNROLL(1)
  for (int first = 0; first < N; first += kKeys, kv += kKeys * kStride) {
    V ds[kKeys];
    IGPT_UNROLL(4)
    for (int j = 0; j < kKeys; ++j) ds[j] = minus_delta;
    IGPT_UNROLL(32)
    for (int i = 0; i < kHeadDim; ++i) {
      const V d_i = load(d_out + i * N);
      IGPT_UNROLL(4)
      for (int j = 0; j < kKeys; ++j) ds[j] = hn::MulAdd(d_i, all(kv[j * kStride + kHeadDim + i]), ds[j]);
    }
    IGPT_UNROLL(4)
    for (int j = 0; j < kKeys; ++j) {
      const V p = load(weights.p + (first + j) * N);
      ds[j] = hn::Mul(ds[j], p);
      if constexpr (kInterleaved<kHeadDim>) {
        store_interleaved(ds[j], p, weights.both + (first + j) * 2 * N);
      } else {
        store(ds[j], weights.ds + (first + j) * N);
      }
    }
    IGPT_UNROLL(4)
    for (int j = 0; j < kKeys; ++j) {
      IGPT_UNROLL(32)
      for (int i = 0; i < kHeadDim; ++i) dq[i] = hn::MulAdd(ds[j], all(kv[j * kStride + i]), dq[i]);
    }
  }
}

/// dK += dS^T q and dV += P^T dO together.
template <int kHeadDim>
HWY_INLINE void backward_interleaved(const Weights& weights, const float* q_do, float* dkv) {
  constexpr int kStride = kPairStride<kHeadDim>, kKeys = kManyRegisters ? N : N / 2;
  const hn::CappedTag<float, HWY_MAX(2 * kHeadDim, 4)> features;
  const hn::RepartitionToWide<hn::RebindToUnsigned<decltype(features)>> pairs;
  using Features = hn::Vec<decltype(features)>;
  IGPT_UNROLL(1)
  for (int first = 0; first < N; first += kKeys) {
    Features sums[kKeys];
    IGPT_UNROLL(16)
    for (int j = 0; j < kKeys; ++j) sums[j] = hn::Load(features, dkv + (first + j) * kStride);
    IGPT_UNROLL(4)
    for (int i = 0; i < N; ++i) {
      const Features x = hn::Load(features, q_do + i * kStride);
      IGPT_UNROLL(16)
      for (int j = 0; j < kKeys; ++j) {
        uint64_t pair;
        hwy::CopyBytes<sizeof pair>(weights.both + (first + j) * 2 * N + both_place(i), &pair);
        sums[j] = hn::MulAdd(hn::BitCast(features, hn::Set(pairs, pair)), x, sums[j]);
      }
    }
    IGPT_UNROLL(16)
    for (int j = 0; j < kKeys; ++j) hn::Store(sums[j], features, dkv + (first + j) * kStride);
  }
}

/// The same where a row of dK alone fills vectors.
template <int kHeadDim>
HWY_INLINE void backward_separate(const Weights& weights, const float* q_do, float* dkv) {
  constexpr int kStride = kPairStride<kHeadDim>, kKeys = HWY_MIN(N, kManyRegisters ? 8 : 4);
  const hn::CappedTag<float, HWY_MIN(kHeadDim, N)> features;
  constexpr int kLanes = static_cast<int>(hn::MaxLanes(features));
  using Features = hn::Vec<decltype(features)>;
  IGPT_UNROLL(1)
  for (int first = 0; first < N; first += kKeys) {
    IGPT_UNROLL(1)
    for (int feature = 0; feature < kHeadDim; feature += kLanes) {
      Features dk[kKeys], dv[kKeys];
      float* const rows = dkv + first * kStride + feature;
      IGPT_UNROLL(8)
      for (int j = 0; j < kKeys; ++j) {
        dk[j] = hn::Load(features, rows + j * kStride);
        dv[j] = hn::Load(features, rows + j * kStride + kHeadDim);
      }
      IGPT_UNROLL(2)
      for (int i = 0; i < N; ++i) {
        const Features q = hn::Load(features, q_do + i * kStride + feature);
        const Features d_out = hn::Load(features, q_do + i * kStride + kHeadDim + feature);
        IGPT_UNROLL(8)
        for (int j = 0; j < kKeys; ++j) {
          dk[j] = hn::MulAdd(hn::Set(features, weights.ds[(first + j) * N + i]), q, dk[j]);
          dv[j] = hn::MulAdd(hn::Set(features, weights.p[(first + j) * N + i]), d_out, dv[j]);
        }
      }
      IGPT_UNROLL(8)
      for (int j = 0; j < kKeys; ++j) {
        hn::Store(dk[j], features, rows + j * kStride);
        hn::Store(dv[j], features, rows + j * kStride + kHeadDim);
      }
    }
  }
}

/// q, d_out and dq: tiles of kHeadDim rows; kv, q_do and dkv: rows of tokens; dkv is added to. P is computed again from
/// the log-sum-exp, tile by tile (Dao et al. 2022), and delta is the rows' sum of attended * d_out.
/// For N query-key pairs: 5 kHeadDim multiply-adds (three fifths of them with queries across the lanes, the rest with
/// features), exp2 (5 and 6 others), 4 others and the stores of P and dS. 78% of the peak of multiply-adds.
template <int kHeadDim>
HWY_NOINLINE void attention_backward(const float* q, const float* d_out, int64_t tile_stride, const float* kv,
                                     const float* q_do, int tiles, const float* log_sum_exp, const float* delta,
                                     int64_t sum_stride, float* dq, float* dkv) {
  constexpr int kStride = kPairStride<kHeadDim>;
  Weights weights;
  for (int tile = 0; tile < tiles; ++tile) {
    const int64_t at = tile * tile_stride;
    const V minus_log_sum_exp = hn::Neg(load(log_sum_exp + tile * sum_stride));
    const V minus_delta = hn::Neg(load(delta + tile * sum_stride));
    V dq_of_tile[kHeadDim];
    IGPT_UNROLL(32)
    for (int i = 0; i < kHeadDim; ++i) dq_of_tile[i] = zero();
    for (int key_tile = 0; key_tile <= tile; ++key_tile) {
      const int64_t keys = int64_t{key_tile} * N * kStride;
      backward_probabilities<kHeadDim>(q + at, kv + keys, minus_log_sum_exp, key_tile == tile, weights);
      backward_logits<kHeadDim>(d_out + at, kv + keys, minus_delta, weights, dq_of_tile);
      const float* const queries = q_do + int64_t{tile} * N * kStride;
      if constexpr (kInterleaved<kHeadDim>) {
        backward_interleaved<kHeadDim>(weights, queries, dkv + keys);
      } else {
        backward_separate<kHeadDim>(weights, queries, dkv + keys);
      }
    }
    IGPT_UNROLL(32)
    for (int i = 0; i < kHeadDim; ++i) store(dq_of_tile[i], dq + at + i * N);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace igpt::ops::cpu
HWY_AFTER_NAMESPACE();

#endif
