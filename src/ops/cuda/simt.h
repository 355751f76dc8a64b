#pragma once

// What our kernels are written against, instead of CUDA's own names: nvcc makes the real instruction of each, any other
// compiler the emulator of tests/simt, in which every CUDA thread is a fiber whose accesses are checked. Blocks have
// one dimension and whole warps.
//
//   SIMT_KERNEL(threads[, blocks])     begins a kernel of at most that many threads a block, so that so many fit an SM
//   SIMT_ARGUMENT                      before the type of an argument that has arrays to be indexed
//   SIMT_DEVICE                        begins a function that kernels call; SIMT_ANYWHERE one that the host calls, too
//   thread() lane() warp()             where a thread is in its block of block_threads()
//   block() block_y() block_z()        and its block in the grid
//   sync_threads() sync_warp()         barriers; nothing else orders accesses to memory
//   ptr<T>                             to global or shared memory; load_as<V>(p), store_as(p, v) move vectors of T
//   SharedArena                        hands out the block's dynamic shared memory, in the same order in every thread
//   shuffle_xor() any()                exchange within a warp, by all its lanes
//   exp2_approx()                      2^x to 2 ulp; results below 2^-126 are zero
//   reciprocal() inverse_sqrt()        1 / x (of |x| < 2^126) and 1 / sqrt(x) to 2 ulp
//   pack_bf16()                        two floats, rounded to nearest even, in one register (first: lower half)
//   mma_bf16_k16() mma_bf16_k8()       c (16 x 8) += a (16 x 16 or 8) b; fragments as in the PTX ISA, "Matrix Fragments
//                                      for mma.m16n8k16"
//   load_matrices<transposed>()        ldmatrix: four 8 x 8 matrices from the rows to which the lanes point
//   transpose_matrix()                 movmatrix: an 8 x 8 matrix, spread over the lanes, transposed
//   kBf16TensorCores                   whether the device compiled for has the two mma (sm_80 and later)
//   rarely(condition)                  the condition of a branch that is hardly ever taken
//   changed_rarely(x)                  what only such branches change
//
// and by the host: Config and launch(), Global (a kernel's pointer arguments), limits().

#ifdef __CUDACC__
#include "src/ops/cuda/simt_device.h"
#else
#include "tests/simt/emulator.h"
#endif

namespace igpt::ops::cuda {

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

}  // namespace igpt::ops::cuda
