#pragma once

// What all attention kernels share: rows of a head, in memory and in registers.

#include "src/ops/cuda/attention.h"
#include "src/ops/cuda/simt.h"

namespace igpt::ops::cuda {

constexpr float kMasked = -1e30f;  // a logit whose weight is zero

/// The rows of one head: (S, d).
template <class T>
struct Rows {
  simt::ptr<T> first;
  int stride;

  SIMT_DEVICE simt::ptr<T> operator[](int row) const { return first + int64_t{row} * stride; }
};

/// The rows of the block's head. Grids are (parts of a head, heads, images).
template <class T>
SIMT_DEVICE Rows<T> rows_of_block(const Heads<T>& heads) {
  return {heads.data + (simt::block_z() * heads.batch_stride + simt::block_y() * heads.head_stride), heads.row_stride};
}

/// The place of the block's head in log_sum_exp and delta.
SIMT_DEVICE int64_t statistics_of_block(const AttentionSizes& sizes) {
  return (int64_t{simt::block_z()} * sizes.heads + simt::block_y()) * sizes.length;
}

template <int kHeadDim>
struct Row {
  float x[kHeadDim];
};

template <int kHeadDim>
SIMT_DEVICE Row<kHeadDim> load_row(simt::ptr<const float> from, float factor = 1.0f) {
  Row<kHeadDim> row;
#pragma unroll
  for (int i = 0; i < kHeadDim; i += 4) {
    const float4 four = simt::load_as<float4>(from + i);
    row.x[i] = four.x * factor;
    row.x[i + 1] = four.y * factor;
    row.x[i + 2] = four.z * factor;
    row.x[i + 3] = four.w * factor;
  }
  return row;
}

template <int kHeadDim>
SIMT_DEVICE void store_row(simt::ptr<float> to, const Row<kHeadDim>& row, float factor) {
#pragma unroll
  for (int i = 0; i < kHeadDim; i += 4)
    simt::store_as(to + i,
                   float4{row.x[i] * factor, row.x[i + 1] * factor, row.x[i + 2] * factor, row.x[i + 3] * factor});
}

template <int kHeadDim>
SIMT_DEVICE float dot(const Row<kHeadDim>& a, const Row<kHeadDim>& b) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kHeadDim; ++i) sum = fmaf(a.x[i], b.x[i], sum);
  return sum;
}

/// to += factor * row
template <int kHeadDim>
SIMT_DEVICE void add_scaled(Row<kHeadDim>& to, float factor, const Row<kHeadDim>& row) {
#pragma unroll
  for (int i = 0; i < kHeadDim; ++i) to.x[i] = fmaf(factor, row.x[i], to.x[i]);
}

}  // namespace igpt::ops::cuda
