#pragma once

// What both the host and the kernels know of a launch.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#ifdef __CUDACC__
#define SIMT_ANYWHERE __host__ __device__ __forceinline__
#else
#define SIMT_ANYWHERE inline
#endif

namespace igpt::simt {

struct Limits {
  int shared_bytes = 0;  ///< the largest dynamic shared memory of a block
  bool bf16_tensor_cores = false;
};

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

/// How a kernel is launched.
struct Config {
  Grid blocks;
  int threads = 32;
  int shared_bytes = 0;
  void* stream = nullptr;  ///< cudaStream_t
};

/// A pointer to device memory in a kernel's arguments, which the host assigns. To kernels it is a simt::ptr<T>: for
/// nvcc a pointer, in the emulator one that checks each access.
#ifdef __CUDACC__
template <class T>
using Global = T*;
template <class T>
T* address(T* p) {  ///< for the host
  return p;
}
#else
template <class T>
class ptr;
template <class T>
class Reference;

template <class T>
class Global {
 public:
  Global(T* address = nullptr) : address_(address) {}
  operator Global<const T>() const requires(!std::is_const_v<T>) { return address_; }

  T* address() const { return address_; }
  explicit operator bool() const { return address_ != nullptr; }

  // For kernels; the emulator defines them.
  operator ptr<T>() const;
  operator ptr<const T>() const requires(!std::is_const_v<T>);
  ptr<T> operator+(int64_t i) const;
  Reference<T> operator[](int64_t i) const;
  Reference<T> operator*() const;

 private:
  T* address_;
};
template <class T>
T* address(Global<T> p) {
  return p.address();
}
#endif

}  // namespace igpt::simt
