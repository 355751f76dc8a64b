#pragma once

// Causal attention on bf16 tensor cores (mma_tiles.cuh), forward and backward, tile by tile of 16 queries x 16 keys.
// There are no atomics: sums over several warps are added in a fixed order.

#include "src/ops/cuda/mma_tiles.cuh"

namespace igpt::ops::cuda {

/// Planes of each product's operands. kPlanes = 3 is as good as fp32: logits 24 bits, the others 16. kPlanes = 2:
/// logits and dP 16 bits, the others 8.
template <int kPlanes>
struct MmaPrecision {
  static constexpr int kLogits = kPlanes;                // S = Q K^T
  static constexpr int kWeightGradients = 2;             // dP = dO V^T
  static constexpr int kWeights = kPlanes == 3 ? 2 : 1;  // P V, P^T dO, dS K, dS^T Q
};

/// A block's warps and the tiles of each: as many as its registers hold.
template <int kHeadDim>
struct MmaBlock {
  static constexpr int kWarps = kHeadDim == 8 ? 16 : 8;
  static constexpr int kTiles = kHeadDim == 8 ? 4 : kHeadDim == 16 ? 2 : 1;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kRows = kWarps * kTiles * kTile;

  /// The n-th tile of this warp. Tiles are dealt back and forth, so that each warp sees as many pairs.
  static SIMT_DEVICE int tile(int n) {
    return n % 2 ? n * kWarps + kWarps - 1 - simt::warp() : n * kWarps + simt::warp();
  }
};

SIMT_DEVICE int rounded_to_tile(int length) {
  return (length + kTile - 1) / kTile * kTile;
}
SIMT_DEVICE int smaller(int a, int b) {
  return a < b ? a : b;
}

/// Logits of pairs whose key is later than the query, in a tile on the diagonal.
template <bool kRowsAreQueries>
SIMT_DEVICE void mask_later_keys(float (&logits)[2][4]) {
  simt::keep_branch();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = fragment_group() + i % 4 / 2 * 8, column = 8 * (i / 4) + 2 * fragment_member() + i % 2;
    if (kRowsAreQueries ? column > row : row > column) logits[i / 4][i % 4] = kMasked;
  }
}

template <int kHeadDim, int kPlanes>
struct ForwardMma {
  using Precision = MmaPrecision<kPlanes>;
  using Block = MmaBlock<kHeadDim>;

  /// Bytes of shared memory for chunks of so many keys.
  static constexpr int bytes(int keys) {
    return SplitRows<kHeadDim>::bytes(keys, Precision::kLogits + Precision::kWeights);
  }

  /// 16 queries: two rows of each thread's own, 8 apart. The softmax's reference point is no running maximum: it is the
  /// first tile's, and moves when a sum of weights becomes large.
  struct Queries {
    static constexpr float kLargestSum = 1.152921504606847e18f;  // 2^60

    LeftRows<kHeadDim, Precision::kLogits> q;
    float out[kHeadDim / 8][4] = {}, reference[2], sum[2] = {};

    SIMT_DEVICE void weigh(const float (&logits)[2][4], float (&weights)[2][4], float (&sums)[2]) const {
#pragma unroll
      for (int i = 0; i < 8; ++i) weights[i / 4][i % 4] = simt::exp2_approx(logits[i / 4][i % 4]);
#pragma unroll
      for (int r = 0; r < 2; ++r)
        sums[r] = (weights[0][2 * r] + weights[0][2 * r + 1]) + (weights[1][2 * r] + weights[1][2 * r + 1]);
    }

    SIMT_DEVICE void move_reference(float (&logits)[2][4], bool first_tile) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float step =
            fmaxf(fmaxf(logits[0][2 * r], logits[0][2 * r + 1]), fmaxf(logits[1][2 * r], logits[1][2 * r + 1]));
        step = fmaxf(step, simt::shuffle_xor(step, 1));
        step = fmaxf(step, simt::shuffle_xor(step, 2));
        if (!first_tile) step = fmaxf(step, 0.0f);
        const float shrink = first_tile ? 0.0f : simt::exp2_approx(-step);
        reference[r] += step;
        sum[r] *= shrink;
#pragma unroll
        for (int x = 0; x < kHeadDim / 8; ++x) {
          out[x][2 * r] *= shrink;
          out[x][2 * r + 1] *= shrink;
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          logits[h][2 * r] -= step;
          logits[h][2 * r + 1] -= step;
        }
      }
    }

    /// `past`: first key less first query, at most 0.
    SIMT_DEVICE void attend(const RightRows<kHeadDim, Precision::kLogits>& k,
                            const TransposedRows<kHeadDim, Precision::kWeights>& v, int past, bool first_tile) {
      float logits[2][4] = {}, weights[2][4], sums[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        multiply_features</*kSwapped=*/false>(logits[h], q, k, h);
#pragma unroll
        for (int i = 0; i < 4; ++i) logits[h][i] -= reference[i / 2];
      }
      if (simt::rarely(past == 0)) mask_later_keys</*kRowsAreQueries=*/true>(logits);
      weigh(logits, weights, sums);
      if (simt::rarely(simt::any(first_tile | !(fmaxf(sums[0], sums[1]) < kLargestSum)))) {
        move_reference(logits, first_tile);
        weigh(logits, weights, sums);
      }
      sum[0] += sums[0];
      sum[1] += sums[1];
      multiply_rows(out, SquareOperand<Precision::kWeights>(weights), v);
    }

    SIMT_DEVICE void store(Rows<float> out_rows, simt::ptr<float> log_sum_exp, int first, int length) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = first + fragment_group() + 8 * r;
        float total = sum[r];
        total += simt::shuffle_xor(total, 1);
        total += simt::shuffle_xor(total, 2);
        if (row >= length) continue;
#pragma unroll
        for (int x = 0; x < kHeadDim / 8; ++x)
          simt::store_as(out_rows[row] + (8 * x + 2 * fragment_member()),
                         float2{out[x][2 * r] / total, out[x][2 * r + 1] / total});
        if (fragment_member() == 0) log_sum_exp[row] = reference[r] + log2f(total);
      }
    }
  };

  /// `chunk`: how many keys, a multiple of 16, lie in shared memory at a time.
  static SIMT_DEVICE void run(const AttentionForward& in, int chunk) {
    const int first_query = simt::block() * Block::kRows,
              last_query = smaller(first_query + Block::kRows, in.sizes.length);
    simt::SharedArena arena;
    const SplitRows<kHeadDim> keys(arena, chunk, Precision::kLogits, "keys");
    const SplitRows<kHeadDim> values(arena, chunk, Precision::kWeights, "values");
    const auto first_row = [&](int n) { return first_query + Block::tile(n) * kTile; };

    Queries queries[Block::kTiles];
#pragma unroll
    for (int n = 0; n < Block::kTiles; ++n) {
      queries[n].reference[0] = queries[n].reference[1] = simt::changed_rarely(0.0f);
      queries[n].q.load(rows_of_block(in.q), first_row(n), in.sizes.length, in.sizes.scale * kLog2E);
    }
    for (int first = 0; first < last_query; first += chunk) {
      const int rows = smaller(chunk, rounded_to_tile(last_query) - first);
      simt::sync_threads();
      keys.template stage<Precision::kLogits>(rows_of_block(in.k), first, rows, in.sizes.length);
      values.template stage<Precision::kWeights>(rows_of_block(in.v), first, rows, in.sizes.length);
      simt::sync_threads();
      for (int j = 0; j < rows; j += kTile) {
        RightRows<kHeadDim, Precision::kLogits> k;
        TransposedRows<kHeadDim, Precision::kWeights> v;
        k.load(keys, j);
        v.load(values, j);
#pragma unroll
        for (int n = 0; n < Block::kTiles; ++n) {
          const int past = first + j - first_row(n);
          if (past > 0 || first_row(n) >= last_query) continue;  // the same in the whole warp
          queries[n].attend(k, v, past, /*first_tile=*/first + j == 0);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < Block::kTiles; ++n)
      queries[n].store(rows_of_block(in.out), in.log_sum_exp + statistics_of_block(in.sizes), first_row(n),
                       in.sizes.length);
  }
};

/// One block for each head of each image. A warp owns tiles of keys, with their dK and dV in registers; the block walks
/// over the tiles of queries together, and each warp's part of dQ meets the others' in shared memory. Tiles are
/// transposed, keys x queries, so that dK and dV need no transposition; dS does for dQ. A sequence longer than the
/// block's keys takes several passes over the queries.
template <int kHeadDim, int kPlanes>
struct BackwardMma {
  using Precision = MmaPrecision<kPlanes>;
  using Block = MmaBlock<kHeadDim>;
  static constexpr int kEights = kHeadDim / 8;
  static constexpr int kPart = Block::kWarps * kTile * kHeadDim;  // floats of the warps' parts of a tile of dQ

  /// Bytes of shared memory for chunks of so many queries.
  static constexpr int bytes(int queries) {
    return SplitRows<kHeadDim>::bytes(Block::kRows + queries, Precision::kLogits + Precision::kWeightGradients) +
           queries * 2 * 4 + 2 * kPart * 4;
  }

  /// What the block holds in shared memory.
  struct Shared {
    SplitRows<kHeadDim> keys, values, queries, d_outs;
    simt::ptr<float> log_sum_exps, deltas, parts;

    SIMT_DEVICE Shared(simt::SharedArena& arena, int chunk)
        : keys(arena, Block::kRows, Precision::kLogits, "keys"),
          values(arena, Block::kRows, Precision::kWeightGradients, "values"),
          queries(arena, chunk, Precision::kLogits, "queries"),
          d_outs(arena, chunk, Precision::kWeightGradients, "d_out"),
          log_sum_exps(arena.take<float>(chunk, "log_sum_exp")),
          deltas(arena.take<float>(chunk, "delta")),
          parts(arena.take<float>(2 * kPart, "parts of dQ")) {}
  };

  /// A tile of 16 queries, as every warp reads it: for dP and the logits, for dK and dV.
  struct Queries {
    RightRows<kHeadDim, Precision::kLogits> q;
    RightRows<kHeadDim, Precision::kWeightGradients> d_out;
    TransposedRows<kHeadDim, Precision::kWeights> q_rows, d_out_rows;
    float2 log_sum_exp[2], delta[2];

    SIMT_DEVICE Queries(const Shared& shared, int first) {
      q.load(shared.queries, first);
      d_out.load(shared.d_outs, first);
      q_rows.load(shared.queries, first);
      d_out_rows.load(shared.d_outs, first);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int column = first + 8 * h + 2 * fragment_member();
        log_sum_exp[h] = simt::load_as<float2>(shared.log_sum_exps + column);
        delta[h] = simt::load_as<float2>(shared.deltas + column);
      }
    }
  };

  struct KeyGradients {
    float dk[kEights][4] = {}, dv[kEights][4] = {};
  };

  /// Copies chunk [first, first + rows) of the queries with what belongs to them. It needs no barrier before it:
  /// whatever it overwrites was last read before the barrier of the last tile of dQ.
  static SIMT_DEVICE void stage_queries(const AttentionBackward& in, const Shared& shared, int first, int rows) {
    const auto q = rows_of_block(in.q), d_out = rows_of_block(in.d_out);
    const auto out = rows_of_block(in.out);
    const int64_t statistics = statistics_of_block(in.sizes);
    shared.queries.template stage<Precision::kLogits>(q, first, rows, in.sizes.length, in.sizes.scale * kLog2E);
    shared.d_outs.template stage<Precision::kWeightGradients>(d_out, first, rows, in.sizes.length);
    for (int i = simt::thread(); i < rows; i += Block::kThreads) {
      float log_sum_exp = 0.0f, delta = 0.0f;  // beyond the end d_out is zero, and so are the gradients
      if (first + i < in.sizes.length) {
        log_sum_exp = in.log_sum_exp[statistics + first + i];
        delta = dot(load_row<kHeadDim>(d_out[first + i]), load_row<kHeadDim>(out[first + i]));
      }
      shared.log_sum_exps[i] = log_sum_exp;
      shared.deltas[i] = delta;
    }
  }

  /// Adds one tile's share to dK, dV and dQ. `past`: first key less first query, at most 0.
  static SIMT_DEVICE void add_tile(const Shared& shared, const Queries& queries, int first_key, int past,
                                   KeyGradients& gradients, float (&dq)[kEights][4]) {
    float p[2][4] = {}, ds[2][4] = {};  // logits and dP at first
    {
      LeftRows<kHeadDim, Precision::kLogits> k;
      LeftRows<kHeadDim, Precision::kWeightGradients> v;
      k.load(shared.keys, first_key);
      v.load(shared.values, first_key);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        multiply_features</*kSwapped=*/true>(p[h], k, queries.q, h);
        multiply_features</*kSwapped=*/true>(ds[h], v, queries.d_out, h);
#pragma unroll
        for (int i = 0; i < 4; ++i) p[h][i] -= i % 2 ? queries.log_sum_exp[h].y : queries.log_sum_exp[h].x;
      }
    }
    if (simt::rarely(past == 0)) mask_later_keys</*kRowsAreQueries=*/false>(p);
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        p[h][i] = simt::exp2_approx(p[h][i]);
        ds[h][i] = p[h][i] * (ds[h][i] - (i % 2 ? queries.delta[h].y : queries.delta[h].x));
      }
    multiply_rows(gradients.dv, SquareOperand<Precision::kWeights>(p), queries.d_out_rows);
    SquareOperand<Precision::kWeights> operand(ds);
    multiply_rows(gradients.dk, operand, queries.q_rows);
    operand.transpose();
    TransposedRows<kHeadDim, Precision::kWeights> k_rows;
    k_rows.load(shared.keys, first_key);
    multiply_rows(dq, operand, k_rows);
  }

  static SIMT_DEVICE void store_part(simt::ptr<float> part, const float (&dq)[kEights][4]) {
#pragma unroll
    for (int x = 0; x < kEights; ++x)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = simt::warp() * kTile + fragment_group() + 8 * r;
        simt::store_as(part + (row * kHeadDim + 8 * x + 2 * fragment_member()), float2{dq[x][2 * r], dq[x][2 * r + 1]});
      }
  }

  /// The sum of the warps' parts; added to what earlier passes left. An element is the same thread's in every pass.
  static SIMT_DEVICE void add_parts(Rows<float> dq, simt::ptr<float> part, int first, int length, float scale,
                                    bool first_pass) {
#pragma unroll
    for (int i = 0; i < kTile * kHeadDim; i += Block::kThreads) {
      const int element = i + simt::thread(), row = first + element / kHeadDim;
      if (element >= kTile * kHeadDim || row >= length) continue;
      float sum = 0.0f;
#pragma unroll
      for (int w = 0; w < Block::kWarps; ++w) sum += part[w * kTile * kHeadDim + element];
      const auto to = dq[row] + element % kHeadDim;
      *to = first_pass ? sum * scale : *to + sum * scale;
    }
  }

  static SIMT_DEVICE void store_key_gradients(Rows<float> dk, Rows<float> dv, const KeyGradients& gradients, int first,
                                              int length) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = first + fragment_group() + 8 * r;
      if (row >= length) continue;
#pragma unroll
      for (int x = 0; x < kEights; ++x) {
        const int column = 8 * x + 2 * fragment_member();
        const float(&k)[4] = gradients.dk[x], (&v)[4] = gradients.dv[x];
        simt::store_as(dk[row] + column, float2{k[2 * r] * kLn2, k[2 * r + 1] * kLn2});  // q was scaled for base 2
        simt::store_as(dv[row] + column, float2{v[2 * r], v[2 * r + 1]});
      }
    }
  }

  /// `chunk`: how many queries, a multiple of 16, lie in shared memory at a time.
  static SIMT_DEVICE void run(const AttentionBackward& in, int chunk) {
    simt::SharedArena arena;
    const Shared shared(arena, chunk);
    const int end = rounded_to_tile(in.sizes.length);
    for (int first_key = 0; first_key < in.sizes.length; first_key += Block::kRows) {
      const int keys = smaller(Block::kRows, end - first_key);
      const auto k = rows_of_block(in.k), v = rows_of_block(in.v);
      shared.keys.template stage<Precision::kLogits>(k, first_key, keys, in.sizes.length);
      shared.values.template stage<Precision::kWeightGradients>(v, first_key, keys, in.sizes.length);
      KeyGradients gradients[Block::kTiles];
      for (int first_query = first_key; first_query < in.sizes.length; first_query += chunk) {
        const int rows = smaller(chunk, end - first_query);
        stage_queries(in, shared, first_query, rows);
        simt::sync_threads();
        for (int i = 0; i < rows; i += kTile) {
          float dq[kEights][4] = {};
          const Queries queries(shared, i);
#pragma unroll
          for (int n = 0; n < Block::kTiles; ++n) {
            const int key = Block::tile(n) * kTile, past = first_key + key - (first_query + i);
            if (past > 0 || key >= keys) continue;  // the same in the whole warp
            add_tile(shared, queries, key, past, gradients[n], dq);
          }
          const auto part = shared.parts + i / kTile % 2 * kPart;  // in turn: one barrier a tile is enough
          store_part(part, dq);
          simt::sync_threads();
          add_parts(rows_of_block(in.dq), part, first_query + i, in.sizes.length, in.sizes.scale,
                    /*first_pass=*/first_key == 0);
        }
      }
#pragma unroll
      for (int n = 0; n < Block::kTiles; ++n)
        store_key_gradients(rows_of_block(in.dk), rows_of_block(in.dv), gradients[n],
                            first_key + Block::tile(n) * kTile, in.sizes.length);
    }
  }
};

template <int kHeadDim, int kPlanes>
SIMT_KERNEL(MmaBlock<kHeadDim>::kThreads)
attention_forward_mma(AttentionForward in, int chunk) {
  if constexpr (simt::kBf16TensorCores) ForwardMma<kHeadDim, kPlanes>::run(in, chunk);
}

template <int kHeadDim, int kPlanes>
SIMT_KERNEL(MmaBlock<kHeadDim>::kThreads)
attention_backward_mma(AttentionBackward in, int chunk) {
  if constexpr (simt::kBf16TensorCores) BackwardMma<kHeadDim, kPlanes>::run(in, chunk);
}

}  // namespace igpt::ops::cuda
