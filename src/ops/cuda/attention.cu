// Chooses and launches the kernels of causal attention. Compiled by nvcc for the device, and by the tests for the
// emulator (simt.h).

#include "src/ops/cuda/attention.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "src/ops/cuda/attention_fp32.cuh"
#include "src/ops/cuda/attention_mma.cuh"
#include "src/ops/cuda/kernel_sizes.h"

namespace igpt::ops::cuda {
namespace {

template <class T>
bool readable(const Heads<T>& heads) {
  return heads.row_stride >= 0 && reinterpret_cast<uintptr_t>(simt::address(heads.data)) % 16 == 0 &&
         heads.batch_stride % 4 == 0 && heads.head_stride % 4 == 0 && heads.row_stride % 4 == 0;
}

template <class... T>
const char* refuse(const AttentionSizes& sizes, const Heads<T>&... heads) {
  if (!attention_supports(sizes)) return kNoKernel;
  return (readable(heads) && ...) ? nullptr : "rows that do not begin at multiples of 16 bytes, or lie too far apart";
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

/// call(head dimension, bf16 planes of the operands), both known to the compiler; no planes are the kernels in fp32.
template <class Call>
auto with_kernel(const AttentionSizes& sizes, AttentionPrecision precision, Call call) {
  const auto with_planes = [&](auto planes) {
    if (sizes.head_dim == 8) return call(std::integral_constant<int, 8>(), planes);
    if (sizes.head_dim == 16) return call(std::integral_constant<int, 16>(), planes);
    return call(std::integral_constant<int, 32>(), planes);
  };
  if (precision == AttentionPrecision::fp32) return with_planes(std::integral_constant<int, 0>());
  if (precision == AttentionPrecision::bf16) return with_planes(std::integral_constant<int, 2>());
  return with_planes(std::integral_constant<int, 3>());
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
  if (const char* cause = refuse(a.sizes, a.q, a.k, a.v, a.out)) return cause;
  return with_kernel(a.sizes, precision, [&](auto head_dim, auto planes) {
    if constexpr (planes() == 0) {
      const simt::Config config{grid_of(a.sizes, query_rows<head_dim()>), kRowThreads, forward_fp32_bytes<head_dim()>,
                                launch.stream};
      return simt::launch(config, attention_forward_fp32<head_dim()>, a);
    } else {
      using Kernel = ForwardMma<head_dim(), planes()>;
      constexpr int kEnough = 64 * 1024;  // leaves room for a second block
      Chunk chunk;
      if (const char* cause = chunk.choose(a.sizes, launch, 0, Kernel::bytes(1), kEnough)) return cause;
      const simt::Config config{grid_of(a.sizes, Kernel::Block::kRows), Kernel::Block::kThreads,
                                Kernel::bytes(chunk.rows), launch.stream};
      return simt::launch(config, attention_forward_mma<head_dim(), planes()>, a, chunk.rows);
    }
  });
}

const char* attention_backward(const AttentionBackward& a, AttentionPrecision precision,
                               const AttentionLaunch& launch) {
  if (const char* cause = refuse(a.sizes, a.q, a.k, a.v, a.out, a.d_out, a.dq, a.dk, a.dv)) return cause;
  return with_kernel(a.sizes, precision, [&](auto head_dim, auto planes) {
    if constexpr (planes() == 0) {
      simt::Config config{grid_of(a.sizes, query_rows<head_dim()>), kRowThreads, forward_fp32_bytes<head_dim()>,
                          launch.stream};
      if (const char* cause = simt::launch(config, attention_backward_queries_fp32<head_dim()>, a)) return cause;
      config.shared_bytes = backward_keys_fp32_bytes<head_dim()>;
      return simt::launch(config, attention_backward_keys_fp32<head_dim()>, a);
    } else {
      using Kernel = BackwardMma<head_dim(), planes()>;
      Chunk chunk;
      if (const char* cause = chunk.choose(a.sizes, launch, Kernel::bytes(0), Kernel::bytes(1) - Kernel::bytes(0)))
        return cause;
      const simt::Config config{
          {1, a.sizes.heads, a.sizes.batch}, Kernel::Block::kThreads, Kernel::bytes(chunk.rows), launch.stream};
      return simt::launch(config, attention_backward_mma<head_dim(), planes()>, a, chunk.rows);
    }
  });
}

}  // namespace igpt::ops::cuda
