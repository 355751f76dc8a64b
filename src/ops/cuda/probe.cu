#include <cuda_runtime.h>

#include <cstdio>

// Tries a device before LibTorch uses it: driver, memory, and whether this library holds code for its architecture.

namespace {

constexpr int kThreads = 32;

__global__ void square_threads(int* squares) {
  squares[threadIdx.x] = threadIdx.x * threadIdx.x;
}

const char* describe(cudaError_t error, int device) {
  static char text[256];
  switch (error) {
    case cudaErrorInsufficientDriver:
      return "the NVIDIA driver is too old for this program's CUDA; update the driver";
    case cudaErrorMemoryAllocation:
      return "the device has no memory left; stop what uses it (nvidia-smi shows what does)";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
      return "the device's architecture is not one that this program was built for";
    default:
      std::snprintf(text, sizeof text, "device %d: %s", device, cudaGetErrorString(error));
      return text;
  }
}

cudaError_t run_kernel(int (&squares)[kThreads]) {
  int* on_device = nullptr;
  cudaError_t error = cudaMalloc(&on_device, sizeof squares);
  if (error != cudaSuccess) return error;
  square_threads<<<1, kThreads>>>(on_device);
  error = cudaGetLastError();
  if (error == cudaSuccess) error = cudaMemcpy(squares, on_device, sizeof squares, cudaMemcpyDeviceToHost);
  cudaFree(on_device);
  return error;
}

const char* why_not(int device) {
  static char text[64];
  int devices = 0;
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) return describe(error, device);
  if (device >= devices) {
    std::snprintf(text, sizeof text, "the CUDA devices here are numbered from 0 to %d", devices - 1);
    return text;
  }
  int previous = 0;
  cudaGetDevice(&previous);
  error = cudaSetDevice(device);
  int squares[kThreads] = {};
  if (error == cudaSuccess) error = run_kernel(squares);
  cudaSetDevice(previous);
  if (error != cudaSuccess) return describe(error, device);
  for (int i = 0; i < kThreads; ++i)
    if (squares[i] != i * i) return "the device computes wrong results";
  return nullptr;
}

}  // namespace

/// Null when `device` can run kernels of this library, else the cause (valid until the next call).
extern "C" const char* igpt_cuda_probe(int device) {
  const char* const cause = why_not(device);
  cudaGetLastError();  // reported here; nobody else shall find it
  return cause;
}
