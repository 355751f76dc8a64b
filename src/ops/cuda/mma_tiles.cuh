#pragma once

// Products of fp32 matrices on bf16 tensor cores, by tiles of 16 x 16 in a warp.
//
// A float is split into planes of bf16, each what the ones before have left: x = h + m + l. Three planes carry its 24
// bits, two 16. A product of sums is a sum of products, of which the smallest are left out. One mma contracts over 16
// columns; where rows have only 8, two planes lie side by side in them, so that one mma adds two products.
//
// Fragments: lane 4 * group + member holds, of a tile of 16 x 8 sums, rows `group` and `group + 8` (elements 0, 1 and
// 2, 3) and columns 2 * member and the next.

#include "src/ops/cuda/attention_rows.cuh"

namespace igpt::ops::cuda {

constexpr int kTile = 16;

SIMT_DEVICE int fragment_group() {
  return simt::lane() / 4;
}
SIMT_DEVICE int fragment_member() {
  return simt::lane() % 4;
}

/// Planes of two floats that stand side by side.
template <int kPlanes>
SIMT_DEVICE void split(float x, float y, uint32_t (&planes)[kPlanes]) {
#pragma unroll
  for (int p = 0; p < kPlanes; ++p) {
    planes[p] = simt::pack_bf16(x, y);
    if (p + 1 < kPlanes) {
      x -= simt::float_of_bits(planes[p] << 16);
      y -= simt::float_of_bits(planes[p] & 0xffff0000u);
    }
  }
}

struct PlanePair {
  int a, b;
};
template <int kPlanes>
constexpr int kPlanePairs = kPlanes*(kPlanes + 1) / 2;

/// The i-th product of planes that is summed, the small ones first.
template <int kPlanes>
SIMT_DEVICE constexpr PlanePair plane_pair(int i) {
  if constexpr (kPlanes == 1) {
    return {0, 0};
  } else if constexpr (kPlanes == 2) {
    return i == 0 ? PlanePair{0, 1} : i == 1 ? PlanePair{1, 0} : PlanePair{0, 0};
  } else {
    return i == 0   ? PlanePair{0, 2}
           : i == 1 ? PlanePair{2, 0}
           : i == 2 ? PlanePair{1, 1}
           : i == 3 ? PlanePair{0, 1}
           : i == 4 ? PlanePair{1, 0}
                    : PlanePair{0, 0};
  }
}

/// Rows in shared memory, split into planes. Padded such that the eight rows of a matrix lie in different banks.
template <int kHeadDim>
struct SplitRows {
  static constexpr int kStride = kHeadDim == 8 ? 8 : kHeadDim + 8;

  simt::ptr<uint16_t> data;
  int capacity;  // rows

  static constexpr int bytes(int rows, int planes) { return rows * planes * kStride * 2; }

  SIMT_DEVICE SplitRows(simt::SharedArena& arena, int rows, int planes, const char* name)
      : data(arena.take<uint16_t>(rows * planes * kStride, name)), capacity(rows) {}

  SIMT_DEVICE simt::ptr<uint16_t> at(int plane, int row, int column) const {
    return data + ((plane * capacity + row) * kStride + column);
  }

  /// The whole block writes rows [0, rows) from `from`[first ...], times `factor`; zeros from row `length` on.
  template <int kPlanes>
  SIMT_DEVICE void stage(Rows<const float> from, int first, int rows, int length, float factor = 1.0f) const {
    constexpr int kPairs = kHeadDim / 2;
    for (int i = simt::thread(); i < rows * kPairs; i += simt::block_threads()) {
      const int row = i / kPairs, column = i % kPairs * 2;
      float2 pair{0.0f, 0.0f};
      if (first + row < length) pair = simt::load_as<float2>(from[first + row] + column);
      uint32_t planes[kPlanes];
      split(pair.x * factor, pair.y * factor, planes);
#pragma unroll
      for (int p = 0; p < kPlanes; ++p) simt::store_as(at(p, row, column), planes[p]);
    }
  }
};

// ---- contraction over the features: sums (16 x 8) += A (16 x d) B^T

/// Which plane and columns fill each half of an operand's 16 columns. For d = 8 and three planes A is [h l], [h m] and
/// B [l h], [m h], [h m]: the first A meets the first B, the second the others. For two planes A is [h m] and B [m h],
/// and the product of the two h takes an mma of 8 columns. Each mma adds the same products when A and B change places,
/// as they do between the forward and the backward pass: a logit that the one rounds otherwise than the other would be
/// an error of the weight's exponent.
template <int kHeadDim, int kPlanes>
struct FeatureOperands {
  static constexpr int kSlices = kHeadDim == 8 ? 1 : kHeadDim / 16;  // of 16 columns
  static constexpr int kLeft = kHeadDim == 8 ? kPlanes - 1 : kPlanes * kSlices;
  static constexpr int kRight = kHeadDim == 8 ? (kPlanes == 3 ? 3 : 1) : kPlanes * kSlices;

  static SIMT_DEVICE constexpr int left_plane(int operand, int half) {
    if (kHeadDim != 8) return operand / kSlices;
    return half == 0 ? 0 : kPlanes == 3 && operand == 0 ? 2 : 1;
  }
  static SIMT_DEVICE constexpr int right_plane(int operand, int half) {
    if (kHeadDim != 8) return operand / kSlices;
    if (kPlanes == 2) return 1 - half;
    return operand == 0 ? 2 - 2 * half : operand == 1 ? 1 - half : half;
  }
  static SIMT_DEVICE constexpr int column(int operand, int half) {
    return kHeadDim == 8 ? 0 : operand % kSlices * 16 + half * 8;
  }
};

/// 16 rows as the first operand, [rows 0-7, rows 8-15 of the left half, likewise of the right half].
template <int kHeadDim, int kPlanes>
struct LeftRows {
  using Operands = FeatureOperands<kHeadDim, kPlanes>;

  uint32_t r[Operands::kLeft][4];

  SIMT_DEVICE void load(const SplitRows<kHeadDim>& rows, int first) {
    const int matrix = simt::lane() / 8, half = matrix / 2, row = first + matrix % 2 * 8 + simt::lane() % 8;
#pragma unroll
    for (int i = 0; i < Operands::kLeft; ++i)
      simt::load_matrices<false>(r[i], rows.at(Operands::left_plane(i, half), row, Operands::column(i, half)));
  }

  /// From device memory, times `factor`; zeros from row `length` on.
  SIMT_DEVICE void load(Rows<const float> rows, int first, int length, float factor) {
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      const int row = first + fragment_group() + 8 * upper;
#pragma unroll
      for (int eight = 0; eight < kHeadDim; eight += 8) {
        float2 pair{0.0f, 0.0f};
        if (row < length) pair = simt::load_as<float2>(rows[row] + (eight + 2 * fragment_member()));
        uint32_t planes[kPlanes];
        split(pair.x * factor, pair.y * factor, planes);
#pragma unroll
        for (int i = 0; i < Operands::kLeft; ++i)
#pragma unroll
          for (int half = 0; half < 2; ++half)
            if (eight == Operands::column(i, half)) r[i][2 * half + upper] = planes[Operands::left_plane(i, half)];
      }
    }
  }
};

/// 16 rows as the second operand, [left half, right half of rows 0-7, likewise of rows 8-15]. Loaded in the very
/// registers that mma wants, some planes twice: copying registers would cost more than the products.
template <int kHeadDim, int kPlanes>
struct RightRows {
  using Operands = FeatureOperands<kHeadDim, kPlanes>;

  uint32_t r[Operands::kRight][4];

  SIMT_DEVICE void load(const SplitRows<kHeadDim>& rows, int first) {
    const int matrix = simt::lane() / 8, half = matrix % 2, row = first + matrix / 2 * 8 + simt::lane() % 8;
#pragma unroll
    for (int i = 0; i < Operands::kRight; ++i)
      simt::load_matrices<false>(r[i], rows.at(Operands::right_plane(i, half), row, Operands::column(i, half)));
  }
};

/// The products of A's rows with rows 8 * upper ... of B. With kSwapped what multiply_features(B, A) would add, in its
/// order (for d = 8 but for the order within an mma).
template <bool kSwapped, int kHeadDim, int kPlanes>
SIMT_DEVICE void multiply_features(float (&sums)[4], const LeftRows<kHeadDim, kPlanes>& a,
                                   const RightRows<kHeadDim, kPlanes>& b, int upper) {
  if constexpr (kHeadDim == 8) {
#pragma unroll
    for (int i = 0; i < FeatureOperands<kHeadDim, kPlanes>::kRight; ++i)
      simt::mma_bf16_k16(sums, a.r[kPlanes == 3 && i > 0 ? 1 : 0], b.r[i][2 * upper], b.r[i][2 * upper + 1]);
    if constexpr (kPlanes == 2) simt::mma_bf16_k8(sums, a.r[0][0], a.r[0][1], b.r[0][2 * upper + 1]);
  } else {
    constexpr int kSlices = FeatureOperands<kHeadDim, kPlanes>::kSlices;
#pragma unroll
    for (int i = 0; i < kPlanePairs<kPlanes>; ++i) {
      const PlanePair pair = plane_pair<kPlanes>(i);
      const int left_plane = kSwapped ? pair.b : pair.a, right_plane = kSwapped ? pair.a : pair.b;
#pragma unroll
      for (int x = 0; x < kSlices; ++x) {
        const auto& right = b.r[right_plane * kSlices + x];
        simt::mma_bf16_k16(sums, a.r[left_plane * kSlices + x], right[2 * upper], right[2 * upper + 1]);
      }
    }
  }
}

// ---- contraction over 16 rows: sums (16 x d) += A (16 x 16) B

/// 16 rows as the second operand.
template <int kHeadDim, int kPlanes>
struct TransposedRows {
  static constexpr int kEights = kHeadDim / 8;

  uint32_t r[kPlanes][kEights][2];  // [..][columns, by eights][rows 0-7, rows 8-15]

  SIMT_DEVICE void load(const SplitRows<kHeadDim>& rows, int first) {
    constexpr int kMatrices = kPlanes * kEights * 2;
#pragma unroll
    for (int i = 0; i < kMatrices; i += 4) {
      const int mine = i + simt::lane() / 8, matrix = mine < kMatrices ? mine : kMatrices - 1;
      const int plane = matrix / (2 * kEights), eight = matrix / 2 % kEights;
      uint32_t four[4];
      simt::load_matrices<true>(four, rows.at(plane, first + matrix % 2 * 8 + simt::lane() % 8, eight * 8));
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (i + j < kMatrices) r[(i + j) / (2 * kEights)][(i + j) / 2 % kEights][j % 2] = four[j];
    }
  }
};

/// Two tiles of sums side by side, 16 x 16, as the first operand.
template <int kPlanes>
struct SquareOperand {
  uint32_t r[kPlanes][4];

  SIMT_DEVICE explicit SquareOperand(const float (&sums)[2][4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      uint32_t planes[kPlanes];
      split(sums[i / 2][i % 2 * 2], sums[i / 2][i % 2 * 2 + 1], planes);
#pragma unroll
      for (int p = 0; p < kPlanes; ++p) r[p][i] = planes[p];
    }
  }

  SIMT_DEVICE void transpose() {
#pragma unroll
    for (int p = 0; p < kPlanes; ++p) {
      const uint32_t lower_left = r[p][1];
      r[p][0] = simt::transpose_matrix(r[p][0]);
      r[p][1] = simt::transpose_matrix(r[p][2]);
      r[p][2] = simt::transpose_matrix(lower_left);
      r[p][3] = simt::transpose_matrix(r[p][3]);
    }
  }
};

template <int kHeadDim, int kPlanes, int kPlanesOfRows>
SIMT_DEVICE void multiply_rows(float (&sums)[kHeadDim / 8][4], const SquareOperand<kPlanes>& a,
                               const TransposedRows<kHeadDim, kPlanesOfRows>& b) {
#pragma unroll
  for (int i = 0; i < kPlanePairs<kPlanes>; ++i) {
    const PlanePair pair = plane_pair<kPlanes>(i);
#pragma unroll
    for (int x = 0; x < kHeadDim / 8; ++x)
      simt::mma_bf16_k16(sums[x], a.r[pair.a], b.r[pair.b][x][0], b.r[pair.b][x][1]);
  }
}

}  // namespace igpt::ops::cuda
