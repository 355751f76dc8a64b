// Chooses and launches the kernels of causal attention. Compiled by nvcc for the device, and by the tests for the
// emulator (simt.h).

#include "src/ops/cuda/attention.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "src/ops/cuda/attention_fp32.cuh"
#include "src/ops/cuda/attention_mma.cuh"

namespace igpt::ops::cuda {
namespace {

template <class T>
bool readable(const Heads<T>& heads) {
  return heads.row_stride >= 0 && heads.row_stride <= INT32_MAX && reinterpret_cast<uintptr_t>(heads.data) % 16 == 0 &&
         heads.batch_stride % 4 == 0 && heads.head_stride % 4 == 0 && heads.row_stride % 4 == 0;
}

const char* refuse(const AttentionSizes& sizes, bool are_readable) {
  if (!attention_supports(sizes)) return "there is no kernel for these sizes";
  if (!are_readable) return "rows that do not begin at multiples of 16 bytes, or lie too far apart";
  return nullptr;
}

template <class T>
DeviceHeads<T> on_device(const Heads<T>& heads) {
  return {simt::device_ptr(heads.data), heads.batch_stride, heads.head_stride, static_cast<int>(heads.row_stride)};
}

ForwardArguments on_device(const AttentionForward& a) {
  return {static_cast<int>(a.sizes.heads),
          static_cast<int>(a.sizes.length),
          a.sizes.scale,
          on_device(a.q),
          on_device(a.k),
          on_device(a.v),
          on_device(a.out),
          simt::device_ptr(a.log_sum_exp)};
}

BackwardArguments on_device(const AttentionBackward& a) {
  return {static_cast<int>(a.sizes.heads),
          static_cast<int>(a.sizes.length),
          a.sizes.scale,
          on_device(a.q),
          on_device(a.k),
          on_device(a.v),
          on_device(a.out),
          on_device(a.d_out),
          simt::device_ptr(a.log_sum_exp),
          simt::device_ptr(a.delta),
          on_device(a.dq),
          on_device(a.dk),
          on_device(a.dv)};
}

int64_t divided_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// One block for each of so many rows of each head of each image.
simt::Grid grid_of(const AttentionSizes& sizes, int64_t rows) {
  return {divided_up(sizes.length, rows), sizes.heads, sizes.batch};
}

/// How many rows, a multiple of 16, a block holds in shared memory at a time.
struct Chunk {
  int rows = 0;

  /// Of rows of `row_bytes`, no more than the sequence has or was asked for, beside `fixed_bytes`.
  const char* choose(const AttentionSizes& sizes, const AttentionLaunch& launch, int fixed_bytes, int row_bytes,
                     int most_bytes = INT32_MAX) {
    simt::Limits limits;
    if (const char* cause = simt::limits(limits)) return cause;
    if (!limits.bf16_tensor_cores) return "the device has no bf16 tensor cores";
    const int64_t fit = (std::min(limits.shared_bytes, most_bytes) - fixed_bytes) / row_bytes / kTile * kTile;
    if (fit <= 0) return "the device has too little shared memory";
    rows = static_cast<int>(std::min(fit, divided_up(sizes.length, kTile) * kTile));
    if (launch.chunk > 0) rows = std::min(rows, std::max(launch.chunk / kTile, 1) * kTile);
    return nullptr;
  }
};

template <int kHeadDim>
const char* forward_fp32(const AttentionForward& a, const AttentionLaunch& launch) {
  const simt::Config config{grid_of(a.sizes, rows_of_block<kHeadDim>), kRowThreads, forward_fp32_bytes<kHeadDim>,
                            launch.stream};
  return simt::launch(config, attention_forward_fp32<kHeadDim>, on_device(a));
}

template <int kHeadDim>
const char* backward_fp32(const AttentionBackward& a, const AttentionLaunch& launch) {
  simt::Config config{grid_of(a.sizes, rows_of_block<kHeadDim>), kRowThreads, forward_fp32_bytes<kHeadDim>,
                      launch.stream};
  if (const char* cause = simt::launch(config, attention_backward_queries_fp32<kHeadDim>, on_device(a))) return cause;
  config.shared_bytes = backward_keys_fp32_bytes<kHeadDim>;
  return simt::launch(config, attention_backward_keys_fp32<kHeadDim>, on_device(a));
}

template <int kHeadDim, int kPlanes>
const char* forward_mma(const AttentionForward& a, const AttentionLaunch& launch) {
  using Kernel = ForwardMma<kHeadDim, kPlanes>;
  constexpr int kEnough = 64 * 1024;  // leaves room for a second block
  Chunk chunk;
  if (const char* cause = chunk.choose(a.sizes, launch, 0, Kernel::bytes(1), kEnough)) return cause;
  const simt::Config config{grid_of(a.sizes, Kernel::Block::kRows), Kernel::Block::kThreads, Kernel::bytes(chunk.rows),
                            launch.stream};
  return simt::launch(config, attention_forward_mma<kHeadDim, kPlanes>, on_device(a), chunk.rows);
}

template <int kHeadDim, int kPlanes>
const char* backward_mma(const AttentionBackward& a, const AttentionLaunch& launch) {
  using Kernel = BackwardMma<kHeadDim, kPlanes>;
  Chunk chunk;
  if (const char* cause = chunk.choose(a.sizes, launch, Kernel::bytes(0), Kernel::bytes(1) - Kernel::bytes(0)))
    return cause;
  const simt::Config config{
      {1, a.sizes.heads, a.sizes.batch}, Kernel::Block::kThreads, Kernel::bytes(chunk.rows), launch.stream};
  return simt::launch(config, attention_backward_mma<kHeadDim, kPlanes>, on_device(a), chunk.rows);
}

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

template <class Call>
auto with_planes(AttentionPrecision precision, Call call) {
  switch (precision) {
    case AttentionPrecision::fp32:
      return call(Constant<0>());
    case AttentionPrecision::split_bf16:
      return call(Constant<3>());
    default:
      return call(Constant<2>());
  }
}

/// call(head dimension, bf16 planes of the operands), both known to the compiler; no planes are the kernels in fp32.
template <class Call>
auto with_kernel(const AttentionSizes& sizes, AttentionPrecision precision, Call call) {
  return with_planes(precision, [&](auto planes) {
    if (sizes.head_dim == 8) return call(Constant<8>(), planes);
    if (sizes.head_dim == 16) return call(Constant<16>(), planes);
    return call(Constant<32>(), planes);
  });
}

}  // namespace

int attention_shared_bytes(const AttentionSizes& sizes, AttentionPrecision precision) {
  return with_kernel(sizes, precision, [](auto head_dim, auto planes) {
    if constexpr (planes() == 0)
      return std::max(forward_fp32_bytes<head_dim()>, backward_keys_fp32_bytes<head_dim()>);
    else
      return std::max(ForwardMma<head_dim(), planes()>::bytes(kTile), BackwardMma<head_dim(), planes()>::bytes(kTile));
  });
}

const char* attention_forward(const AttentionForward& a, AttentionPrecision precision, const AttentionLaunch& launch) {
  const bool are_readable = readable(a.q) && readable(a.k) && readable(a.v) && readable(a.out);
  if (const char* cause = refuse(a.sizes, are_readable)) return cause;
  return with_kernel(a.sizes, precision, [&](auto head_dim, auto planes) {
    if constexpr (planes() == 0)
      return forward_fp32<head_dim()>(a, launch);
    else
      return forward_mma<head_dim(), planes()>(a, launch);
  });
}

const char* attention_backward(const AttentionBackward& a, AttentionPrecision precision,
                               const AttentionLaunch& launch) {
  const bool are_readable = readable(a.q) && readable(a.k) && readable(a.v) && readable(a.out) && readable(a.d_out) &&
                            readable(a.dq) && readable(a.dk) && readable(a.dv);
  if (const char* cause = refuse(a.sizes, are_readable)) return cause;
  return with_kernel(a.sizes, precision, [&](auto head_dim, auto planes) {
    if constexpr (planes() == 0)
      return backward_fp32<head_dim()>(a, launch);
    else
      return backward_mma<head_dim(), planes()>(a, launch);
  });
}

}  // namespace igpt::ops::cuda
