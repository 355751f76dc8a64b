#pragma once

// simt.h for nvcc: each name is one instruction or builtin.

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "src/ops/cuda/simt_launch.h"

#define SIMT_DEVICE __device__ __forceinline__
#define SIMT_ARGUMENT const __grid_constant__
#define SIMT_KERNEL(...) __global__ void __launch_bounds__(__VA_ARGS__)

namespace igpt::simt {

template <class T>
using ptr = T*;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool kBf16TensorCores = false;
#else
constexpr bool kBf16TensorCores = true;
#endif

SIMT_DEVICE int thread() {
  return static_cast<int>(threadIdx.x);
}
SIMT_DEVICE int block() {
  return static_cast<int>(blockIdx.x);
}
SIMT_DEVICE int block_y() {
  return static_cast<int>(blockIdx.y);
}
SIMT_DEVICE int block_z() {
  return static_cast<int>(blockIdx.z);
}
SIMT_DEVICE int block_threads() {
  return static_cast<int>(blockDim.x);
}
SIMT_DEVICE int lane() {
  return thread() % 32;
}
SIMT_DEVICE int warp() {
  return thread() / 32;
}
SIMT_DEVICE void sync_threads() {
  __syncthreads();
}
SIMT_DEVICE void sync_warp() {
  __syncwarp();
}

class SharedArena {
 public:
  SIMT_DEVICE SharedArena() {
    extern __shared__ __align__(16) unsigned char simt_shared_memory[];
    next_ = simt_shared_memory;
  }

  /// `count` elements, 16 bytes aligned. The name is for the emulator's messages.
  template <class T>
  SIMT_DEVICE T* take(int count, const char* /*name*/) {
    T* const first = reinterpret_cast<T*>(next_);
    next_ += (count * sizeof(T) + 15) / 16 * 16;
    return first;
  }

 private:
  unsigned char* next_;
};

template <class V, class T>
SIMT_DEVICE V load_as(T* p) {
  return *reinterpret_cast<const V*>(p);
}
template <class V, class T>
SIMT_DEVICE void store_as(T* p, V v) {
  *reinterpret_cast<V*>(p) = v;
}

SIMT_DEVICE float float_of_bits(uint32_t bits) {
  return __uint_as_float(bits);
}
SIMT_DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
SIMT_DEVICE float reciprocal(float x) {
  return __fdividef(1.0f, x);
}
SIMT_DEVICE float inverse_sqrt(float x) {
  return rsqrtf(x);
}
SIMT_DEVICE float shuffle_xor(float x, int mask) {
  return __shfl_xor_sync(~0u, x, mask);
}
SIMT_DEVICE bool any(bool x) {
  return __any_sync(~0u, x);
}

SIMT_DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
SIMT_DEVICE void mma_bf16_k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
SIMT_DEVICE void mma_bf16_k8(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(b));
}
template <bool transposed>
SIMT_DEVICE void load_matrices(uint32_t (&r)[4], const uint16_t* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
}
SIMT_DEVICE uint32_t transpose_matrix(uint32_t x) {
  uint32_t y;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

/// When tests/simt/count_kernels.py counts the instructions of a loop (IGPT_COUNT_USUAL_PATH), a rare branch ends the
/// thread, which leaves only the usual path of the loop.
SIMT_DEVICE bool rarely(bool condition) {
#ifdef IGPT_COUNT_USUAL_PATH
  if (condition) asm volatile("exit;");
  return false;
#else
  return condition;
#endif
}
/// Keeps the compiler from turning a rare branch into predicated instructions.
SIMT_DEVICE void keep_branch() {
  asm volatile("");
}
/// x; when instructions are counted, a value that the compiler cannot know. It would fold what only rare branches
/// change into the usual path as a constant.
SIMT_DEVICE float changed_rarely(float x) {
#ifdef IGPT_COUNT_USUAL_PATH
  asm volatile("mov.b32 %0, %%laneid;" : "=f"(x));
#endif
  return x;
}

/// The message of an error; null for success. It also clears CUDA's last error, which the next caller that asks for it,
/// LibTorch for one, would take for its own.
inline const char* message_of(cudaError_t error) {
  if (error == cudaSuccess) return nullptr;
  cudaGetLastError();
  return cudaGetErrorString(error);
}

/// The limits of the current device. Returns null, or the cause of a failure.
inline const char* limits(Limits& of_device) {
  int device = 0, major = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&of_device.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  of_device.bf16_tensor_cores = major >= 8;
  return message_of(error);
}

/// Launches the kernel. Returns null, or CUDA's message.
template <class... Parameters, class... Arguments>
const char* launch(const Config& config, void (*kernel)(Parameters...), const Arguments&... arguments) {
  constexpr int kWithoutAsking = 48 * 1024;
  cudaError_t error = cudaSuccess;
  if (config.shared_bytes > kWithoutAsking)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, config.shared_bytes);
  if (error == cudaSuccess) {
    const dim3 blocks(static_cast<unsigned>(config.blocks.x), static_cast<unsigned>(config.blocks.y),
                      static_cast<unsigned>(config.blocks.z));
    kernel<<<blocks, config.threads, config.shared_bytes, static_cast<cudaStream_t>(config.stream)>>>(arguments...);
    error = cudaGetLastError();
  }
  return message_of(error);
}

}  // namespace igpt::simt
