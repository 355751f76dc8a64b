#pragma once

// simt.h without a GPU: every thread of a block is a fiber. Blocks run one after another; warps and lanes in an order
// drawn from a seed, each warp as far as it can go. Barriers and warp-wide operations are where threads wait for each
// other. Memory is checked (checked_memory.h); threads that part, at barriers or warp-wide operations, are a Fault.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "simt/checked_memory.h"
#include "src/ops/cuda/simt_launch.h"

#define SIMT_DEVICE inline
#define SIMT_ARGUMENT const
#define SIMT_KERNEL(...) void

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

namespace igpt::simt {

constexpr bool kBf16TensorCores = true;

/// How tensor cores add up an mma's products (Fasi et al. 2021, "Numerical behavior of NVIDIA tensor cores"; Khattak
/// and Mikaitis 2025): `together` of them and what is there at a time, all shifted to the largest exponent and cut off
/// `extra_bits` behind a float's last bit there.
struct TensorCores {
  int together = 0;  ///< 0: the device has none
  int extra_bits = 0;
};
constexpr TensorCores kNoTensorCores{}, kAmpere{8, 1}, kHopper{16, 2};  // up to sm_75; sm_80 to 89; from sm_90 on

/// The device that is emulated, and the order in which it runs threads; for tests to change.
struct Device {
  unsigned order = 1;             ///< seed
  int shared_bytes = 227 * 1024;  ///< what a block can have
  TensorCores tensor_cores = kHopper;
  int64_t shared_bytes_of_launch = 0;  ///< what the last launch asked for
};
Device& device();

using Where = std::source_location;

// What the scheduler does for a thread (emulator.cc).
int thread();
int block();
int block_y();
int block_z();
int block_threads();
void sync_threads(Where where = Where::current());
void sync_warp(Where where = Where::current());
const Access* access();  ///< of the thread that runs; null outside of a kernel
CheckedMemory* take_shared(const char* name, size_t count, size_t element_bytes);
CheckedMemory* find_global(const void* at);

inline int lane() {
  return thread() % 32;
}
inline int warp() {
  return thread() / 32;
}

/// One element in checked memory.
template <class T>
class Reference {
 public:
  Reference(T* at, CheckedMemory* memory) : at_(at), memory_(memory) {}
  operator T() const {
    memory_->read(at_, sizeof(T), access());
    return *at_;
  }
  T operator=(T value) const {
    memory_->write(at_, sizeof(T), access());
    return *at_ = value;
  }
  T operator=(const Reference& other) const { return *this = static_cast<T>(other); }
  T operator+=(T value) const { return *this = static_cast<T>(*this) + value; }

 private:
  T* at_;
  CheckedMemory* memory_;
};

template <class T>
class ptr {
 public:
  ptr() = default;
  ptr(T* at, CheckedMemory* memory) : at_(at), memory_(memory) {}
  operator ptr<const T>() const { return {at_, memory_}; }
  Reference<T> operator[](ptrdiff_t i) const { return {at_ + i, memory_}; }
  Reference<T> operator*() const { return {at_, memory_}; }
  ptr operator+(ptrdiff_t i) const { return {at_ + i, memory_}; }
  explicit operator bool() const { return at_ != nullptr; }

  template <class V, class U>
  friend V load_as(ptr<U> p);
  template <class V, class U>
  friend void store_as(ptr<U> p, V v);

 private:
  T* at_ = nullptr;
  CheckedMemory* memory_ = nullptr;
};

template <class V, class T>
V load_as(ptr<T> p) {
  p.memory_->read(p.at_, sizeof(V), access());
  V v;
  std::memcpy(&v, p.at_, sizeof v);
  return v;
}
template <class V, class T>
void store_as(ptr<T> p, V v) {
  p.memory_->write(p.at_, sizeof(V), access());
  std::memcpy(p.at_, &v, sizeof v);
}

class SharedArena {
 public:
  template <class T>
  ptr<T> take(int count, const char* name) {
    CheckedMemory* memory = take_shared(name, static_cast<size_t>(count), sizeof(T));
    return {reinterpret_cast<T*>(memory->base()), memory};
  }
};

/// An array in global memory, as the host has it.
template <class T>
class Buffer {
 public:
  /// Which nobody has written yet: the bytes are NaN.
  Buffer(std::string name, size_t count);
  /// Filled by the host.
  Buffer(std::string name, const std::vector<T>& values);
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  T* data() { return values_.data(); }
  const std::vector<T>& values() const { return values_; }
  size_t unwritten() const { return memory_.unwritten(); }

 private:
  std::vector<T> values_;
  CheckedMemory memory_;
};

void register_global(CheckedMemory* memory);
void forget_global(CheckedMemory* memory);

template <class T>
Buffer<T>::Buffer(std::string name, size_t count)
    : values_(count), memory_("global " + std::move(name), values_.data(), count, sizeof(T)) {
  std::memset(values_.data(), 0xff, count * sizeof(T));
  register_global(&memory_);
}
template <class T>
Buffer<T>::Buffer(std::string name, const std::vector<T>& values) : Buffer(std::move(name), values.size()) {
  values_.assign(values.begin(), values.end());
  memory_.fill();
}
template <class T>
Buffer<T>::~Buffer() {
  forget_global(&memory_);
}

template <class T>
ptr<T> device_ptr(T* host_side) {
  return {host_side, host_side ? find_global(host_side) : nullptr};
}

template <class T>
Global<T>::operator ptr<T>() const {
  return device_ptr(address_);
}
template <class T>
Global<T>::operator ptr<const T>() const requires(!std::is_const_v<T>) {
  return device_ptr(address_);
}
template <class T>
ptr<T> Global<T>::operator+(int64_t i) const {
  return device_ptr(address_) + i;
}
template <class T>
Reference<T> Global<T>::operator[](int64_t i) const {
  return device_ptr(address_)[i];
}
template <class T>
Reference<T> Global<T>::operator*() const {
  return *device_ptr(address_);
}

// ---- warp-wide operations: each lane brings a value, and none goes on before the last has come

constexpr size_t kSlotBytes = 32;
using Slots = const char (*)[kSlotBytes];  // of the 32 lanes

enum class WarpOperation { barrier, shuffle, vote, mma_k16, mma_k8, load_matrices, transpose_matrix };

Slots gather(WarpOperation operation, const void* value, size_t bytes, const Where& where);

template <class T>
Slots gather(WarpOperation operation, const T& value, const Where& where) {
  static_assert(sizeof(T) <= kSlotBytes && std::is_trivially_copyable_v<T>);
  return gather(operation, &value, sizeof value, where);
}
/// Element `i` of what a lane brought.
template <class T>
T of_lane(Slots slots, int lane, int i = 0) {
  T value;
  std::memcpy(&value, slots[lane] + i * sizeof(T), sizeof value);
  return value;
}

inline float shuffle_xor(float x, int mask, Where where = Where::current()) {
  return of_lane<float>(gather(WarpOperation::shuffle, x, where), lane() ^ mask);
}
bool any(bool x, Where where = Where::current());
void mma_bf16_k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Where where = Where::current());
void mma_bf16_k8(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b, Where where = Where::current());
uint32_t transpose_matrix(uint32_t x, Where where = Where::current());

struct MatrixRow {
  uint32_t pairs[4];  // eight 16-bit numbers
};
void spread_matrices(uint32_t (&r)[4], const MatrixRow& row, bool transposed, const Where& where);
template <bool transposed>
void load_matrices(uint32_t (&r)[4], ptr<uint16_t> row, Where where = Where::current()) {
  spread_matrices(r, load_as<MatrixRow>(row), transposed, where);
}

// ---- arithmetic

float float_of_bits(uint32_t bits);
uint32_t pack_bf16(float low, float high);
float exp2_approx(float x);
float reciprocal(float x);
float inverse_sqrt(float x);
inline bool rarely(bool condition) {
  return condition;
}
inline void keep_branch() {}
inline float changed_rarely(float x) {
  return x;
}

// ---- for the host

inline const char* limits(Limits& of_device) {
  of_device = {device().shared_bytes, device().tensor_cores.together > 0};
  return nullptr;
}

/// Runs the grid. Null, or what is wrong with the configuration.
const char* run(const Config& config, const std::function<void()>& kernel);

template <class... Parameters, class... Arguments>
const char* launch(const Config& config, void (*kernel)(Parameters...), const Arguments&... arguments) {
  return run(config, [&] { kernel(arguments...); });
}

}  // namespace igpt::simt
