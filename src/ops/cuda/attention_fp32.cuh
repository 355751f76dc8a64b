#pragma once

// Causal attention on the ordinary fp32 units, for devices without bf16 tensor cores.
//
// A thread owns one or two rows of a head and keeps them in registers; the rows of the other side come in tiles through
// shared memory, from where all threads read the same one. Per pair of query and key and head dimension d: forward 2 d
// multiply-adds, backward 3 d (dQ) and 4 d (dK, dV), one exponential each.

#include "src/ops/cuda/attention_rows.cuh"

namespace igpt::ops::cuda {

constexpr int kRowThreads = 128;
constexpr int kTileRows = 64;
constexpr float kHeadroom = 60.0f;  // a logit may exceed its reference point by this much: 2^60 sums stay finite

/// Rows that a thread owns: two, the u-th from either end, so that every thread sees as many pairs; one where two would
/// take too many registers.
template <int kHeadDim>
constexpr int kOwnRows = kHeadDim <= 16 ? 2 : 1;

template <int kHeadDim>
constexpr int query_rows = kRowThreads* kOwnRows<kHeadDim>;

/// Bytes of shared memory.
template <int kHeadDim>
constexpr int forward_fp32_bytes = 2 * kTileRows* kHeadDim * 4;
template <int kHeadDim>
constexpr int backward_keys_fp32_bytes = 2 * kTileRows*(kHeadDim + 1) * 4;

/// The rows of this thread, the lower one first; `nobody` stands for a row beyond the end.
template <int kHeadDim>
struct OwnRows {
  int row[kOwnRows<kHeadDim>];

  SIMT_DEVICE OwnRows(int part, int length, int nobody) {
    const int u = part * kRowThreads + simt::thread();
    if constexpr (kOwnRows<kHeadDim> == 2) {
      const bool owns = u < (length + 1) / 2;
      row[0] = owns ? u : nobody;
      row[1] = owns ? length - 1 - u : nobody;  // the middle row of an odd number is the same one twice
    } else {
      row[0] = u < length ? u : nobody;
    }
  }

  SIMT_DEVICE int lowest() const { return row[0] < row[kOwnRows<kHeadDim> - 1] ? row[0] : row[kOwnRows<kHeadDim> - 1]; }
  SIMT_DEVICE int highest() const {
    return row[0] > row[kOwnRows<kHeadDim> - 1] ? row[0] : row[kOwnRows<kHeadDim> - 1];
  }

  /// The last key that any row of the block attends to.
  static SIMT_DEVICE int last_key_of_block(int part, int length) {
    const int first = part * kRowThreads;
    if (kOwnRows<kHeadDim> == 2) return length - 1 - first;
    return (first + kRowThreads < length ? first + kRowThreads : length) - 1;
  }
};

/// The whole block copies rows [first, first + kTileRows) of `from`, times `factor`; zeros beyond `length`.
template <int kHeadDim>
SIMT_DEVICE void stage_tile(simt::ptr<float> to, Rows<const float> from, int first, int length, float factor = 1.0f) {
  constexpr int kFours = kHeadDim / 4;
  for (int i = simt::thread(); i < kTileRows * kFours; i += kRowThreads) {
    const int row = i / kFours, column = i % kFours * 4;
    float4 four{0.0f, 0.0f, 0.0f, 0.0f};
    if (first + row < length) four = simt::load_as<float4>(from[first + row] + column);
    simt::store_as(to + (row * kHeadDim + column),
                   float4{four.x * factor, four.y * factor, four.z * factor, four.w * factor});
  }
}

/// A query and its sums over the keys so far. The reference point of the softmax is no running maximum: it moves only
/// when a logit is about to overflow.
template <int kHeadDim>
struct QueryState {
  Row<kHeadDim> q = {}, out = {};
  float reference = -INFINITY, sum = 0.0f;

  SIMT_DEVICE void make_room(float largest_logit) {
    if (!simt::rarely(largest_logit > reference + kHeadroom)) return;
    const float shrink = simt::exp2_approx(reference - largest_logit);
    sum *= shrink;
    reference = largest_logit;
#pragma unroll
    for (int i = 0; i < kHeadDim; ++i) out.x[i] *= shrink;
  }
};

template <int kHeadDim>
SIMT_KERNEL(kRowThreads)
attention_forward_fp32(AttentionForward in) {
  constexpr int kRows = kOwnRows<kHeadDim>, kKeys = 4;  // keys in flight
  simt::SharedArena arena;
  const auto keys = arena.take<float>(kTileRows * kHeadDim, "keys");
  const auto values = arena.take<float>(kTileRows * kHeadDim, "values");
  const OwnRows<kHeadDim> own(simt::block(), in.sizes.length, /*nobody=*/-1);
  const auto q = rows_of_block(in.q);
  QueryState<kHeadDim> query[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (own.row[r] >= 0) query[r].q = load_row<kHeadDim>(q[own.row[r]], in.sizes.scale * kLog2E);

  const int last_key = OwnRows<kHeadDim>::last_key_of_block(simt::block(), in.sizes.length);
  for (int first = 0; first <= last_key; first += kTileRows) {
    simt::sync_threads();
    stage_tile<kHeadDim>(keys, rows_of_block(in.k), first, in.sizes.length);
    stage_tile<kHeadDim>(values, rows_of_block(in.v), first, in.sizes.length);
    simt::sync_threads();
    for (int j = 0; j < kTileRows && first + j <= own.highest(); j += kKeys) {
      float weight[kRows][kKeys];  // logits at first
#pragma unroll
      for (int i = 0; i < kKeys; ++i) {
        const auto k = load_row<kHeadDim>(keys + (j + i) * kHeadDim);
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          if (first + j <= own.row[r]) weight[r][i] = first + j + i <= own.row[r] ? dot(query[r].q, k) : kMasked;
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (first + j <= own.row[r]) {
          query[r].make_room(fmaxf(fmaxf(weight[r][0], weight[r][1]), fmaxf(weight[r][2], weight[r][3])));
#pragma unroll
          for (int i = 0; i < kKeys; ++i) {
            weight[r][i] = simt::exp2_approx(weight[r][i] - query[r].reference);
            query[r].sum += weight[r][i];
          }
        }
#pragma unroll
      for (int i = 0; i < kKeys; ++i) {
        const auto v = load_row<kHeadDim>(values + (j + i) * kHeadDim);
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          if (first + j <= own.row[r]) add_scaled(query[r].out, weight[r][i], v);
      }
    }
  }
  const auto out = rows_of_block(in.out);
  const int64_t statistics = statistics_of_block(in.sizes);
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (own.row[r] >= 0) {
      store_row(out[own.row[r]], query[r].out, 1.0f / query[r].sum);
      in.log_sum_exp[statistics + own.row[r]] = query[r].reference + log2f(query[r].sum);
    }
}

/// dQ, with the weights computed again from the log-sum-exp (Dao et al. 2022); and delta, the sum of out * d_out of
/// each row, for the other kernel.
template <int kHeadDim>
SIMT_KERNEL(kRowThreads)
attention_backward_queries_fp32(AttentionBackward in) {
  constexpr int kRows = kOwnRows<kHeadDim>;
  simt::SharedArena arena;
  const auto keys = arena.take<float>(kTileRows * kHeadDim, "keys");
  const auto values = arena.take<float>(kTileRows * kHeadDim, "values");
  const OwnRows<kHeadDim> own(simt::block(), in.sizes.length, /*nobody=*/-1);
  Row<kHeadDim> q[kRows] = {}, d_out[kRows] = {}, dq[kRows] = {};
  float log_sum_exp[kRows] = {}, delta[kRows] = {};
  const int64_t statistics = statistics_of_block(in.sizes);
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (own.row[r] >= 0) {
      q[r] = load_row<kHeadDim>(rows_of_block(in.q)[own.row[r]], in.sizes.scale * kLog2E);
      d_out[r] = load_row<kHeadDim>(rows_of_block(in.d_out)[own.row[r]]);
      delta[r] = dot(d_out[r], load_row<kHeadDim>(rows_of_block(in.out)[own.row[r]]));
      log_sum_exp[r] = in.log_sum_exp[statistics + own.row[r]];
      in.delta[statistics + own.row[r]] = delta[r];
    }

  const int last_key = OwnRows<kHeadDim>::last_key_of_block(simt::block(), in.sizes.length);
  for (int first = 0; first <= last_key; first += kTileRows) {
    simt::sync_threads();
    stage_tile<kHeadDim>(keys, rows_of_block(in.k), first, in.sizes.length);
    stage_tile<kHeadDim>(values, rows_of_block(in.v), first, in.sizes.length);
    simt::sync_threads();
    for (int j = 0; j < kTileRows && first + j <= own.highest(); ++j) {
      const auto k = load_row<kHeadDim>(keys + j * kHeadDim), v = load_row<kHeadDim>(values + j * kHeadDim);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (first + j <= own.row[r]) {
          const float p = simt::exp2_approx(dot(q[r], k) - log_sum_exp[r]);
          add_scaled(dq[r], p * (dot(d_out[r], v) - delta[r]), k);
        }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (own.row[r] >= 0) store_row(rows_of_block(in.dq)[own.row[r]], dq[r], in.sizes.scale);
}

/// dK and dV; here a thread's own rows are keys.
template <int kHeadDim>
SIMT_KERNEL(kRowThreads)
attention_backward_keys_fp32(AttentionBackward in) {
  constexpr int kRows = kOwnRows<kHeadDim>;
  simt::SharedArena arena;
  const auto queries = arena.take<float>(kTileRows * kHeadDim, "queries");
  const auto d_outs = arena.take<float>(kTileRows * kHeadDim, "d_out");
  const auto log_sum_exps = arena.take<float>(kTileRows, "log_sum_exp");
  const auto deltas = arena.take<float>(kTileRows, "delta");
  const OwnRows<kHeadDim> own(simt::block(), in.sizes.length, /*nobody=*/in.sizes.length);
  Row<kHeadDim> k[kRows] = {}, v[kRows] = {}, dk[kRows] = {}, dv[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (own.row[r] < in.sizes.length) {
      k[r] = load_row<kHeadDim>(rows_of_block(in.k)[own.row[r]]);
      v[r] = load_row<kHeadDim>(rows_of_block(in.v)[own.row[r]]);
    }

  const int64_t statistics = statistics_of_block(in.sizes);
  const int lowest_key = simt::block() * kRowThreads;
  for (int first = lowest_key / kTileRows * kTileRows; first < in.sizes.length; first += kTileRows) {
    simt::sync_threads();
    stage_tile<kHeadDim>(queries, rows_of_block(in.q), first, in.sizes.length, in.sizes.scale * kLog2E);
    stage_tile<kHeadDim>(d_outs, rows_of_block(in.d_out), first, in.sizes.length);
    for (int i = simt::thread(); i < kTileRows; i += kRowThreads) {
      const bool inside = first + i < in.sizes.length;
      const int64_t at = statistics + first + i;
      log_sum_exps[i] = inside ? static_cast<float>(in.log_sum_exp[at]) : 0.0f;
      deltas[i] = inside ? static_cast<float>(in.delta[at]) : 0.0f;
    }
    simt::sync_threads();
    for (int j = 0; j < kTileRows && first + j < in.sizes.length; ++j) {
      if (first + j < own.lowest()) continue;
      const auto q = load_row<kHeadDim>(queries + j * kHeadDim), d_out = load_row<kHeadDim>(d_outs + j * kHeadDim);
      const float log_sum_exp = log_sum_exps[j], delta = deltas[j];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        if (first + j >= own.row[r]) {
          const float p = simt::exp2_approx(dot(q, k[r]) - log_sum_exp);
          add_scaled(dv[r], p, d_out);
          add_scaled(dk[r], p * (dot(d_out, v[r]) - delta), q);
        }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (own.row[r] < in.sizes.length) {
      store_row(rows_of_block(in.dk)[own.row[r]], dk[r], kLn2);  // q was scaled for base 2
      store_row(rows_of_block(in.dv)[own.row[r]], dv[r], 1.0f);
    }
}

}  // namespace igpt::ops::cuda
