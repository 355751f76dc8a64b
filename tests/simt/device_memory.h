#pragma once

// Device memory for tests that run emulated and, compiled with IGPT_ON_GPU, on a GPU.

#ifdef IGPT_ON_GPU
#include <cuda_runtime.h>

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "src/ops/cuda/simt_launch.h"

namespace igpt::simt {

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

/// tests/simt/emulator.h's Buffer, on a GPU.
template <class T>
class Buffer {
 public:
  Buffer(std::string /*name*/, size_t count) : host_(count) {
    check(cudaMalloc(&device_, count * sizeof(T)));
    check(cudaMemset(device_, 0xff, count * sizeof(T)));
  }
  Buffer(std::string name, const std::vector<T>& values) : Buffer(std::move(name), values.size()) {
    check(cudaMemcpy(device_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(device_); }

  T* data() { return device_; }
  const std::vector<T>& values() {
    check(cudaMemcpy(host_.data(), device_, host_.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return host_;
  }
  /// Elements whose bytes are those that nobody wrote.
  size_t unwritten() {
    T never;
    std::memset(&never, 0xff, sizeof never);
    size_t count = 0;
    for (const T& value : values()) count += std::memcmp(&value, &never, sizeof never) == 0;
    return count;
  }

 private:
  T* device_ = nullptr;
  std::vector<T> host_;
};

/// Why there is nothing to test on; empty with a GPU.
inline std::string why_not_here() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  return error != cudaSuccess ? cudaGetErrorString(error) : devices == 0 ? "no CUDA device" : "";
}
inline Limits limits() {
  int major = 0;
  Limits limits;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  check(cudaDeviceGetAttribute(&limits.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
  limits.bf16_tensor_cores = major >= 8;
  return limits;
}
/// The kinds of tensor cores that there are to test on, by how many of an mma's products they add at a time: of a GPU
/// its own.
inline std::vector<int> kinds_of_tensor_cores() {
  int major = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  if (major < 8) return {};
  return {major < 9 ? 8 : 16};
}
inline void set_tensor_cores(int /*together*/) {}
/// The order in which threads run is the GPU's own.
inline void set_order(unsigned) {}
inline void wait_for_device() {
  check(cudaDeviceSynchronize());
}

}  // namespace igpt::simt

#else
#include "simt/emulator.h"

namespace igpt::simt {

inline std::string why_not_here() {
  return "";
}
inline Limits limits() {
  Limits limits;
  simt::limits(limits);
  return limits;
}
inline std::vector<int> kinds_of_tensor_cores() {
  return {kAmpere.together, kHopper.together};
}
inline void set_tensor_cores(int together) {
  device().tensor_cores = together == kAmpere.together ? kAmpere : kHopper;
}
inline void set_order(unsigned seed) {
  device().order = seed;
}
inline void wait_for_device() {}

}  // namespace igpt::simt
#endif

namespace igpt::simt {

/// The same of kernels whose blocks need so much shared memory.
inline std::string why_not_here(int shared_bytes) {
  const std::string cause = why_not_here();
  return cause.empty() && shared_bytes > limits().shared_bytes ? "too little shared memory" : cause;
}

}  // namespace igpt::simt
